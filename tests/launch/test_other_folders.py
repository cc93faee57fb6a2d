"""A launch is one folder's: links to it, copies of it and containers are not taken for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.deploy.launch.lock import runner
from compiler.deploy.launch.marks import left_of, mark_of

from .conftest import Bundle
from .test_outlive import PLAN, dync, guard_of

by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces")
WaitFor = Callable[[Callable[[], bool]], None]


@pytest.fixture
def planned(bundle: Bundle) -> Bundle:
    bundle.add("worker", stop_s=1)
    return written(bundle)


def written(bundle: Bundle) -> Bundle:
    bundle.write()
    brief = tuple(replace(item, stop_s=1) for item in PLAN.processes)
    (bundle.root / "plan.json").write_text(replace(PLAN, processes=brief).to_json())
    return bundle


def link(bundle: Path, other: Path) -> None:
    """Make another bundle whose `run` is this one's."""
    shutil.copytree(bundle, other, ignore=shutil.ignore_patterns("run"))
    (other / "run").symlink_to(bundle / "run")


def hard_copy(bundle: Path, other: Path) -> None:
    shutil.copytree(bundle, other, copy_function=os.link)


def copy(bundle: Path, other: Path) -> None:
    shutil.copytree(bundle, other)


@pytest.mark.parametrize("make", [link, hard_copy, copy])
def test_a_copy_or_link_does_not_run(
    make: Callable[[Path, Path], None], planned: Bundle, tmp_path: Path
) -> None:
    launch = planned.start()
    launch.until("serves at")
    other = tmp_path / "other"
    make(planned.root, other)
    assert runner(planned.root) == launch.process.pid
    assert runner(other) is None
    assert left_of(other) == ()
    for words in ((), ("--kill",)):
        done = dync("down", *words, str(other))
        assert (done.returncode, done.stdout) == (0, f"disagg does not run from {other}\n")
    assert launch.process.poll() is None
    if make is not copy:  # a plain copy has a lock of its own
        again = Bundle(other, processes=[])
        status, refused = again.run()
        assert status == 3
        said = f"run/ of this bundle is also that of {planned.root}, which runs (launch.sh has pid "
        assert f"{said}{launch.process.pid})" in refused.stderr
        assert f"rm -r '{other}'/run" in refused.stderr
        shutil.rmtree(other / "run") if make is hard_copy else os.unlink(other / "run")
        assert "is taken by" in again.run()[1].stderr  # the port, which is the same
    assert runner(planned.root) == launch.process.pid
    assert dync("down", str(planned.root)).returncode == 0
    assert launch.end() == 0


@pytest.mark.parametrize("make", [link, hard_copy, copy])
def test_what_a_killed_launch_left_is_not_a_copys(
    make: Callable[[Path, Path], None], bundle: Bundle, tmp_path: Path
) -> None:
    bundle.add("worker", "--ignore-term", stop_s=1)
    planned = written(bundle)
    launch = planned.start()
    launch.until("serves at")
    other = tmp_path / "other"
    make(planned.root, other)
    os.kill(guard_of(launch), signal.SIGKILL)
    launch.process.kill()
    launch.process.wait()
    [worker] = left_of(planned.root)
    assert left_of(other) == ()
    done = dync("down", "--kill", str(other))
    assert (done.returncode, done.stdout) == (0, f"disagg does not run from {other}\n")
    assert left_of(planned.root) == (worker,)
    assert dync("down", str(planned.root)).returncode == 0
    assert left_of(planned.root) == ()
    assert not (planned.root / "run/started").exists()


def test_a_bundle_that_is_built_again_or_moved_runs_on(planned: Bundle, tmp_path: Path) -> None:
    launch = planned.start()
    launch.until("serves at")
    fresh, aside = tmp_path / "fresh", tmp_path / f".{planned.root.name}.dync-x"
    hard_copy(planned.root, fresh)
    planned.root.rename(aside)
    fresh.rename(planned.root)
    assert runner(planned.root) == launch.process.pid  # while the old folder is being removed
    shutil.rmtree(aside)
    assert runner(planned.root) == launch.process.pid
    moved = tmp_path / "moved"
    planned.root.rename(moved)
    assert runner(moved) is None  # a folder of another place, which the launcher never stood in
    moved.rename(planned.root)
    assert dync("down", str(planned.root)).returncode == 0
    assert launch.end() == 0
    assert not (planned.root / "run/started").exists()


def test_a_moved_bundle_runs_on(planned: Bundle, tmp_path: Path) -> None:
    launch = planned.start()
    launch.until("serves at")
    moved = tmp_path / "moved"
    planned.root.rename(moved)
    assert runner(moved) == launch.process.pid
    status, refused = Bundle(moved).run()
    assert status == 3
    assert f"runs already (launch.sh has pid {launch.process.pid})" in refused.stderr
    assert dync("down", str(moved)).returncode == 0
    assert launch.end() == 0
    assert not (moved / "run/started").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_no_session_is_remembered_once_all_has_gone(
    planned: Bundle, wait_for: WaitFor, killed: bool
) -> None:
    """Numbers are given again: a daemon that gets one later is no process of a launch."""
    launch = planned.start()
    launch.until("serves at")
    started = planned.root / "run/started"
    _boot, mark, line = started.read_bytes().splitlines()
    assert mark == mark_of(planned.root)
    assert line.startswith(b"worker ")
    if killed:
        launch.process.kill()
        launch.process.wait()
    else:
        assert launch.stop() == 0
    wait_for(lambda: not started.exists())
    assert runner(planned.root) is None


@contextmanager
def container(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command as the first process of a PID namespace: all of it ends with that."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        try:
            yield running
        finally:
            running.kill()


def until(running: subprocess.Popen[bytes], text: bytes) -> None:
    assert running.stdout is not None
    assert any(text in line for line in running.stdout), text


@by_root
def test_what_runs_in_a_container_is_said_and_not_ended(planned: Bundle) -> None:
    with container("bash", str(planned.root / "launch.sh")) as running:
        until(running, b"serves at")
        assert runner(planned.root) is None
        assert left_of(planned.root) == ()
        done = dync("down", "--kill", str(planned.root))
        assert done.returncode == 1
        assert "disagg runs in another PID namespace, as in a container" in done.stderr
        status, refused = planned.run()
        assert status == 3
        assert "runs already, in another PID namespace, as in a container" in refused.stderr
        assert running.poll() is None


@by_root
def test_a_container_with_another_bundle_of_that_path_is_left_alone(
    planned: Bundle, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    copy(planned.root, other)
    script = 'mount --bind "$1" "$2" && exec bash "$2/launch.sh"'
    with container("bash", "-c", script, "-", str(other), str(planned.root)) as running:
        until(running, b"serves at")
        assert left_of(planned.root) == ()
        done = dync("down", "--kill", str(planned.root))
        assert (done.returncode, done.stdout) == (0, f"disagg does not run from {planned.root}\n")
        status, refused = planned.run()
        assert status == 3
        assert "an earlier launch" not in refused.stderr
        assert "is taken by" in refused.stderr
        assert running.poll() is None
