"""What `dync check` says, byte for byte: tests/errors/<rule>/<case>.yaml and <case>.txt.

A case may begin with `# set: KEY=VALUE`, `# with: OTHER-PROFILE` and `# options: ...` lines.
A file whose name begins with _ belongs to a case and is none itself.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from compiler.cli.main import dync
from compiler.library import library
from compiler.rules.explain import pages
from tests.support import Tree

FOLDER = Path(__file__).parent / "errors"
CASES = sorted(path for path in FOLDER.glob("*/*.yaml") if not path.name.startswith("_"))
_HEADER = re.compile(r"# (set|with|options): (.+)")


def arguments(case: Path) -> list[str]:
    found = [case.name]
    for line in case.read_text("utf-8", "replace").splitlines():
        header = _HEADER.fullmatch(line)
        if header is None:
            break
        kind, text = header.groups()
        found += {"set": ["--set", text], "with": [text], "options": text.split()}[kind]
    return found


def output(case: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(case.parent)
    result = CliRunner().invoke(dync, ["check", *arguments(case)])
    says_error = bool(re.search(r": error: ", result.output))
    assert result.exit_code == (1 if says_error or "--strict" in arguments(case) else 0)
    return result.output


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_output(
    case: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    text = output(case, monkeypatch)
    golden = case.with_suffix(".txt")
    if request.config.getoption("--update-golden"):
        golden.write_text(text, "utf-8")
        pytest.fail(f"wrote {golden}; --update-golden never passes")
    assert text == golden.read_text("utf-8"), f"{golden} (see --update-golden)"


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_finding_is_whole(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case shows its own rule; each finding has place, reason and repair."""
    text = output(case, monkeypatch)
    firsts = [line for line in text.splitlines() if re.search(r": (error|warning|info): ", line)]
    assert firsts
    for part in (r"= rule: \S", r"= fix:  \S"):
        assert len(re.findall(part, text)) == len(firsts)
    shown = {line.rpartition("[")[2].rstrip("]") for line in firsts}
    if case.parent.name not in ("extends", "set-option"):
        assert case.parent.name in shown
    assert shown <= set(pages(library().stacks()))
    assert str(FOLDER) not in text


def test_no_file_is_left_over() -> None:
    texts = {path for path in FOLDER.rglob("*") if path.is_file()}
    cases = {*CASES, *(path.with_suffix(".txt") for path in CASES)}
    assert {path for path in texts - cases if not path.name.startswith("_")} == set()


def test_every_rule_has_a_case() -> None:
    listed: Tree = pages(library().stacks())
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(listed)
