"""What the compiler emits, byte for byte: tests/golden/<case>/profile.yaml and expected/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compiler.emit.bundle import emit
from compiler.library import templates
from tests.support import ROOT, CompareTree, compile_file, plan_in

FOLDER = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in FOLDER.glob("*/profile.yaml"))


def bundle(case: Path) -> dict[str, str]:
    plan = plan_in(compile_file(case / "profile.yaml"))
    return {artifact.path: artifact.text for artifact in emit(plan, templates())}


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_bundle(case: Path, compare_tree: CompareTree) -> None:
    compare_tree(case / "expected", bundle(case))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_same_bytes_twice_and_no_build_path(case: Path) -> None:
    first = bundle(case)
    assert first == bundle(case)
    assert not any(str(FOLDER) in text for text in first.values())


def test_no_folder_without_a_profile() -> None:
    assert sorted(path for path in FOLDER.iterdir() if path.is_dir()) == CASES


def run_pytest(folder: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--rootdir", str(folder), *options, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{FOLDER.parent}:{ROOT}", **env},
    )


def test_update_golden(tmp_path: Path) -> None:
    """The flag rewrites, deletes what is stale, and never passes; CI refuses it."""
    (tmp_path / "conftest.py").write_text((FOLDER.parent / "conftest.py").read_text("utf-8"))
    (tmp_path / "test_one.py").write_text(
        "from pathlib import Path\n"
        "def test_one(compare_tree):\n"
        "    compare_tree(Path(__file__).parent / 'expected', {'a/b': 'new'})\n"
    )
    (tmp_path / "expected").mkdir()
    (tmp_path / "expected" / "stale").write_text("old")
    assert run_pytest(tmp_path).returncode == 1
    refused = run_pytest(tmp_path, "--update-golden", CI="true")
    assert refused.returncode == 4
    assert "CI" in refused.stderr
    assert (tmp_path / "expected" / "stale").exists()
    for _ in range(2):
        assert run_pytest(tmp_path, "--update-golden").returncode == 1
        assert not (tmp_path / "expected" / "stale").exists()
        assert (tmp_path / "expected" / "a" / "b").read_text() == "new"
    assert run_pytest(tmp_path).returncode == 0
