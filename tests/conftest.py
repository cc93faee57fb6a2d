"""What all tests share: golden files, held or rewritten."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support import CompareTree, Tree


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite golden files, and fail the tests that did",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and os.environ.get("CI"):
        raise pytest.UsageError(
            "--update-golden is refused where CI is set: update on your machine"
        )
    # A job in the background starts with these ignored, and so would every shell that a test runs.
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


@pytest.fixture
def compare_tree(request: pytest.FixtureRequest) -> CompareTree:
    """Check a whole folder against texts by their paths; a file too many or too few fails too."""
    update = bool(request.config.getoption("--update-golden"))

    def compare(folder: Path, texts: Tree) -> None:
        found = {
            path.relative_to(folder).as_posix(): path.read_text("utf-8")
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        if not update:
            assert sorted(found) == sorted(texts), f"{folder} (see --update-golden)"
            for path, text in texts.items():
                assert found[path] == text, f"{folder / path} (see --update-golden)"
            return
        changed = sorted(path for path in {*found, *texts} if found.get(path) != texts.get(path))
        for path in changed:
            if path in texts:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(texts[path], "utf-8")
            else:
                (folder / path).unlink()
        if changed:
            pytest.fail(
                f"rewrote {folder}: {', '.join(changed)}. Review it, then run without the flag"
            )
        pytest.fail("nothing to rewrite; --update-golden never passes")

    return compare
