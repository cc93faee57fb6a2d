"""Two builds give the same bytes and modes, whatever the place, the time zone and the locale."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"TZ": "UTC", "LANG": "C", "LC_ALL": "C", "PYTHONHASHSEED": "0"}
OTHER = {"TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "4242", "COLUMNS": "40"}


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def build(profile: str, out: str, cwd: Path, env: dict[str, str], umask: int, *more: str) -> None:
    command = [sys.executable, "-m", "compiler", "build", profile, "-o", out, *more]
    subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        umask=umask,
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("name", ["disagg-2p2d.yaml", "agg-shared-cache.yaml", "disagg-cpu.yaml"])
def test_two_builds_in_different_surroundings_are_equal(tmp_path: Path, name: str) -> None:
    copy = tmp_path / "elsewhere" / "with space"
    copy.mkdir(parents=True)
    for path in (ROOT / "profiles").glob("*.yaml"):
        (copy / path.name).write_bytes(path.read_bytes())
    more = ("--set", "model.served_name=ünïcode")
    utf8 = {**PLAIN, "PYTHONUTF8": "1"}
    build(str(ROOT / "profiles" / name), str(tmp_path / "one"), tmp_path, utf8, 0o022, *more)
    build(name, "../two", copy, OTHER, 0o077, *more)
    one, two = tree(tmp_path / "one"), tree(copy.parent / "two")
    assert one.keys() == two.keys()
    assert [path for path in one if two[path] != one[path]] == []
    text = b"".join(content for _, content in one.values()).decode()
    assert str(tmp_path) not in text
    assert str(ROOT) not in text


def test_a_rebuild_in_place_changes_no_file(tmp_path: Path) -> None:
    profile = str(ROOT / "profiles" / "disagg.yaml")
    build(profile, "out", tmp_path, PLAIN, 0o022)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    build(profile, "out", tmp_path, OTHER, 0o077)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
