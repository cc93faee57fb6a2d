"""tools/lock_stacks.py with a real uv and no network: packages lie in a folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.library import load_stack
from compiler.stacks.lock import parse_lock
from compiler.stacks.stack import Stack
from tests.made_packages import source, wheel
from tests.tool_modules import lock_stacks

pytestmark = pytest.mark.skipif(
    shutil.which("uv") is None and not (Path(sys.executable).parent / "uv").exists(),
    reason="uv is not installed: pip install -e '.[dev]'",
)
TITLE = "vllm-0.32 for cpu on x86_64"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the one folder that uv takes packages from."""
    folder = tmp_path / "index"
    (tmp_path / "empty").mkdir()
    folder.mkdir()
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "empty").as_uri())
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stack:
    """Put a stack of `engine` in the place of all, on one machine, and its locks below tmp_path."""
    shipped = load_stack("vllm-0.32")
    form = replace(
        shipped.platforms["cpu"], requirements=("engine==1.4",), install=(), without=("unfit",)
    )
    made = replace(
        shipped, platforms={"cpu": form}, python=("3.11", "3.12"), architectures=("x86_64",)
    )
    use(monkeypatch, made)
    monkeypatch.setattr(lock_stacks, "lock_path", lambda *_names: tmp_path / "made.lock.txt")
    return made


def use(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> None:
    shipped = replace(lock_stacks.library(), load_stack=lambda _name: stack)
    monkeypatch.setattr(lock_stacks, "library", lambda: shipped)


def versions(tmp_path: Path) -> Mapping[str, str]:
    return parse_lock((tmp_path / "made.lock.txt").read_text("utf-8")).versions("3.12.1")


def test_a_version_stays_until_it_is_asked_for(
    stack: Stack, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack
    path, words = tmp_path / "made.lock.txt", ["vllm-0.32"]
    engine = wheel(index, "engine", "1.4", {"engine.py": ""}, needs="other")
    other = wheel(index, "other", "1.4", {"other.py": ""}, needs="unfit")
    wheel(index, "unfit", "1", {"unfit.py": ""})
    assert lock_stacks.main(["--check", *words]) == 1
    assert not path.exists()
    assert lock_stacks.main(words) == 0
    text = path.read_text("utf-8")
    assert text == (
        f"# Made by tools/lock_stacks.py: stack {TITLE}\n# Python: 3.11 3.12\n"
        f"engine==1.4 \\\n    --hash=sha256:{engine}\nother==1.4 \\\n    --hash=sha256:{other}\n"
    )
    wheel(index, "other", "1.5", {"other.py": ""})
    assert lock_stacks.main(["--check", *words]) == 0
    assert lock_stacks.main(words) == 0
    assert path.read_text("utf-8") == text
    capsys.readouterr()
    assert lock_stacks.main(["--check", "--upgrade", *words]) == 1
    assert "other: 1.4 -> 1.5" in capsys.readouterr().out
    assert lock_stacks.main(["--upgrade", *words]) == 0
    assert versions(tmp_path) == {"engine": "1.4", "other": "1.5"}


def test_versions_that_were_tried_are_taken_over(stack: Stack, index: Path, tmp_path: Path) -> None:
    assert stack
    wheel(index, "engine", "1.4", {"engine.py": ""}, needs="Other_Part")
    for version in ("1.4", "1.5"):
        wheel(index, "other_part", version, {"other.py": ""})
    (tmp_path / "freeze").write_text("Other.Part==1.4\nmine @ file:///mine\n")
    assert lock_stacks.main(["--like", str(tmp_path / "freeze"), "vllm-0.32"]) == 0
    assert versions(tmp_path) == {"engine": "1.4", "other-part": "1.4"}


def test_a_source_is_locked_only_where_the_stack_says_why(
    stack: Stack,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trap = tmp_path / "built"
    hashed = source(index, trap)
    wheel(index, "tool", "1.4", {"tool.py": ""})
    assert lock_stacks.main(["vllm-0.32"]) == 0, "there was no lock, and is none"
    assert "not locked for Python 3.12" in capsys.readouterr().err
    assert not (tmp_path / "made.lock.txt").exists()
    assert not trap.exists()
    form = replace(stack.platforms["cpu"], sdists={"engine": "it was released so"})
    use(monkeypatch, replace(stack, platforms={"cpu": form}))
    assert lock_stacks.main(["vllm-0.32"]) == 0
    assert hashed in (tmp_path / "made.lock.txt").read_text("utf-8")


def test_a_lock_that_cannot_be_made_again_stays(
    stack: Stack, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack
    wheel(index, "engine", "1.4", {"engine.py": ""})
    assert lock_stacks.main(["vllm-0.32"]) == 0
    text = (tmp_path / "made.lock.txt").read_text("utf-8")
    (index / "engine-1.4-py3-none-any.whl").unlink()
    assert lock_stacks.main(["vllm-0.32"]) == 1
    assert f"{TITLE}: left as it is" in capsys.readouterr().err
    assert (tmp_path / "made.lock.txt").read_text("utf-8") == text
