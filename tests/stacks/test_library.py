"""A data file of the program that does not follow its schema ends a command with its place."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compiler import library, shipped_files
from compiler.__main__ import main
from compiler.errors import DataError
from compiler.stacks.lint.shape import RELATIONS
from tests.support import AGG

Edit = Callable[[str, str, str], int]
TIER = "lmcache: {tiers: [{disk: {path: /var/cache/kv, size_gb: 9}}]}\n"
OPTION = AGG.replace("gpus: [0]", "gpus: [0], engine_args: {max_num_seqs: 8}")


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edit]:
    """Replace what begins a line in a data file, as if the program shipped so; return the line."""
    shutil.copytree(shipped_files.root() / "schemas", tmp_path / "schemas")
    monkeypatch.setattr(shipped_files, "root", lambda: tmp_path)
    library.load_stack.cache_clear()

    def replace(name: str, old: str, new: str) -> int:
        path = tmp_path / "schemas" / name
        lines = path.read_text("utf-8").split("\n")
        found = next(i for i, line in enumerate(lines) if line.lstrip(" -").startswith(old))
        lines[found] = lines[found].replace(old, new, 1)
        path.write_text("\n".join(lines), "utf-8")
        return found + 1

    yield replace
    library.load_stack.cache_clear()


def ended(profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (tmp_path / "one.yaml").write_text(profile, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dync", "check", "one.yaml"])
    with pytest.raises(SystemExit) as raised:
        main()
    return raised.value.code


STACK, TIERS = "stacks/vllm-0.32.yaml", "tiers/lmcache-0.5.6.yaml"
RELATED = "engine_relations.yaml"
RUN = "{topology: agg, "
CASES = {
    "unknown key": (AGG, STACK, "summary: ", "sumary: ", "1: error: unknown key 'sumary' at the"),
    "missing key": (AGG, STACK, RUN, "{", "9: error: an entry of runs has no topology"),
    "syntax": (AGG, STACK, "name: ", "name: a: ", "8: error: not valid YAML"),
    "tier": (
        AGG + TIER,
        TIERS,
        "persistent: ",
        "persistant: ",
        "7: error: unknown key 'persistant'",
    ),
    "relation": (OPTION, RELATED, "at: ", "att: ", "3: error: unknown key 'att' in an entry of"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_with_its_place(
    case: str,
    edit: Edit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    profile, name, old, new, says = CASES[case]
    line = edit(name, old, new)
    assert ended(profile, tmp_path, monkeypatch) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"schemas/{name}:{line}:{says}" in printed.err
    assert "internal error" not in printed.err
    assert printed.err.count("= rule: ") == printed.err.count("= fix:  ") >= 1


def test_the_exception_says_it_in_a_line_each(edit: Edit) -> None:
    line = edit(STACK, "summary: ", "sumary: ")
    with pytest.raises(DataError) as raised:
        library.load_stack("vllm-0.32")
    first, second = sorted(str(raised.value).splitlines(), key=len)
    assert first.endswith(": the stack has no summary")
    assert second == f"schemas/{STACK}:{line}:1: unknown key 'sumary' at the top of the stack"
    assert isinstance(raised.value.__cause__, TypeError)


def test_what_its_schema_does_not_know_stays_a_bug() -> None:
    def parse(text: str) -> str:
        raise KeyError(text[:6])

    with pytest.raises(KeyError, match="yaml"):
        library._read("engine_relations.yaml", RELATIONS, parse)
