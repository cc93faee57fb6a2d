"""What a running bundle writes itself stays as it is, whatever it is."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.write.bundle import write
from compiler.write.manifest import NotWritten

from .test_write import NEW, OLD, beside, ended, in_child, is_whole, place

__all__ = ["place"]  # a fixture
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone mounts, and is two accounts")


@pytest.fixture(params=["same", "other", "nothing", "relative"])
def target(request: pytest.FixtureRequest, place: Path) -> Iterator[str]:
    """Return where logs/ leads: this file system or another, nothing, or by a relative way."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (place.parent.parent / "kept").mkdir()
        yield {
            "same": str(place.parent.parent / "kept"),
            "other": other,
            "nothing": "/nowhere/at/all",
            "relative": "../../kept",
        }[request.param]


@pytest.mark.parametrize("name", ["logs", "run"])
def test_a_link_stays_that_link(place: Path, target: str, name: str) -> None:
    write(OLD, place)
    (place / name).symlink_to(target)
    if (place / name).exists():
        (place / name / "worker.log").write_text("line")
    for artifacts in (NEW, OLD):
        assert write(artifacts, place)
        assert os.readlink(place / name) == target
        assert is_whole(place, artifacts)
        assert beside(place) == []
    if (place / name).exists():
        assert (place / name / "worker.log").read_text() == "line"


def test_a_link_within_stays_that_link(place: Path) -> None:
    write(OLD, place)
    (place / "logs").mkdir()
    (place / "logs/old").symlink_to("/var/log")
    assert write(NEW, place)
    assert os.readlink(place / "logs/old") == "/var/log"


@pytest.fixture
def mounted(place: Path) -> Iterator[Path]:
    write(OLD, place)
    (place / "logs").mkdir()
    (place / "run").mkdir()
    (place / "run/lock").write_text("1")
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place / "logs"], check=False)
    if done.returncode:
        pytest.skip("this root may not mount")
    try:
        (place / "logs/worker.log").write_text("line")
        yield place
    finally:
        subprocess.run(["umount", place / "logs"], check=True)


@as_root
def test_a_mount_stays_with_what_it_holds(mounted: Path) -> None:
    held = (mounted / "run/lock").stat().st_ino
    for artifacts in (NEW, OLD):
        assert write(artifacts, mounted)
        assert is_whole(mounted, artifacts)
        assert beside(mounted) == []
        assert os.path.ismount(mounted / "logs")
        assert (mounted / "logs/worker.log").read_text() == "line"
        assert (mounted / "run/lock").stat().st_ino == held


@as_root
def test_a_mount_of_this_file_system_stays_too(place: Path, tmp_path: Path) -> None:
    """The kernel says the same device of both."""
    write(OLD, place)
    (place / "logs").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/worker.log").write_text("line")
    bound = ["mount", "--bind", str(tmp_path / "kept"), str(place / "logs")]
    if subprocess.run(bound, check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        assert write(NEW, place)
        assert (tmp_path / "kept/worker.log").read_text() == "line"
        assert (place / "logs/worker.log").read_text() == "line"
        assert is_whole(place, NEW)
    finally:
        subprocess.run(["umount", place / "logs"], check=True)


def written_as_nobody(place: Path) -> str:
    """Build as another account; return what it refused with."""
    said = place.parent / "said"

    def work() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            write(NEW, place)
        except NotWritten as refusal:
            said.write_text(str(refusal))

    assert ended(in_child(work)) == 0
    return said.read_text() if said.exists() else ""


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_launch_by_root_is_named_with_what_repairs_it(mode: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as base:
        os.chown(base, NOBODY, NOBODY)
        place = Path(base) / "agg"
        write(OLD, place)
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        (place / "logs").mkdir(mode=mode)
        (place / "logs/worker.log").write_text("line")
        (place / "logs/worker.log").chmod(0o600)
        said = written_as_nobody(place)
        assert said.startswith(f"cannot keep {place}/logs")
        assert "it is root's" in said
        command = f"chown -R nobody {place}/logs"
        assert f"sudo {command} {place}/run" in said
        assert is_whole(place, OLD)
        subprocess.run(command.split(), check=True)
        (Path(base) / "said").unlink()
        assert written_as_nobody(place) == ""
        assert is_whole(place, NEW)
        assert (place / "logs/worker.log").read_text() == "line"
