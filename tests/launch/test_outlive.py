"""Nothing of a launch outlives it; what does for all that is found, named and ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.deploy.launch.lock import runner
from compiler.deploy.launch.marks import left_of
from tests.support import AGG, plan_of

from .conftest import PATIENCE_S, Bundle, Launch

WaitFor = Callable[[Callable[[], bool]], None]
DEAF = ("--ignore-term", "--leaver", "--grandchild")
PLAN = replace(plan_of(AGG), name="disagg")


@pytest.fixture
def deaf(bundle: Bundle) -> Bundle:
    """Return a bundle of processes that hear no SIGTERM, with children that left their session."""
    bundle.add("cache", *DEAF, stop_s=1)
    bundle.add("worker", *DEAF, after="cache", stop_s=1)
    bundle.add("router", "--leaver", after="worker", stop_s=1)
    bundle.write()
    brief = tuple(replace(item, stop_s=1) for item in PLAN.processes)
    (bundle.root / "plan.json").write_text(replace(PLAN, processes=brief).to_json())
    return bundle


def dync(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "compiler", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def guard_of(launch: Launch) -> int:
    """Return the pid of the process that watches over a launch.sh."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        words = file.read_text().rpartition(")")[2].split()
        line = (file.parent / "cmdline").read_bytes()
        if int(words[1]) == launch.process.pid and b"service.sh\0guard" in line:
            return int(file.parent.name)
    raise AssertionError("there is no guard")


def test_an_ordinary_stop_leaves_nothing_in_another_session_either(deaf: Bundle) -> None:
    launch = deaf.start()
    launch.until("serves at")
    assert launch.stop() == 0
    assert deaf.left() == []
    assert re.search(r"^dync: what is left behind is ended: pid [\d ]+$", launch.stdout, re.M)
    assert launch.stdout.endswith("dync: stopped\n")


@pytest.mark.parametrize("moment", [0, 0.1, 0.25, 0.5, 0.8, 1.2, 1.6, "cache ready", "serves at"])
def test_a_launcher_that_is_killed_at_any_moment_leaves_nothing(
    deaf: Bundle, wait_for: WaitFor, moment: float | str
) -> None:
    launch = deaf.start()
    if isinstance(moment, str):
        launch.until(moment)
    else:
        time.sleep(moment)
    launch.process.kill()
    launch.process.wait()
    wait_for(lambda: deaf.left() == [])
    time.sleep(0.3)
    assert deaf.left() == []
    again = deaf.start()
    again.until("serves at")
    assert again.stop() == 0


def test_a_launcher_that_is_killed_while_it_stops_leaves_nothing(
    deaf: Bundle, wait_for: WaitFor
) -> None:
    launch = deaf.start()
    launch.until("serves at")
    launch.process.terminate()
    launch.until("stopping")
    launch.process.kill()
    launch.process.wait()
    wait_for(lambda: deaf.left() == [])


def test_no_launch_begins_before_what_was_left_is_gone(deaf: Bundle, wait_for: WaitFor) -> None:
    launch = deaf.start()
    launch.until("serves at")
    guard = guard_of(launch)
    launch.process.kill()
    launch.process.wait()
    wait_for(lambda: "guard" in (deaf.root / "run/lock").read_text())
    status, refused = deaf.run()
    assert (status, refused.stdout) == (3, "")
    assert f"was killed, and pid {guard} still ends what it left" in refused.stderr
    assert runner(deaf.root) is None
    wait_for(lambda: deaf.left() == [])


@pytest.mark.parametrize("words", [(), ("--kill",)])
def test_what_outlives_the_guard_too_is_named_by_the_next_and_ended_by_down(
    deaf: Bundle, words: tuple[str, ...]
) -> None:
    launch = deaf.start()
    launch.until("serves at")
    os.kill(guard_of(launch), signal.SIGKILL)
    launch.process.kill()
    launch.process.wait()
    left = {item.pid for item in left_of(deaf.root)}
    assert len(left) >= 4  # two deaf leaders, and what has left its session
    status, refused = deaf.run()
    assert (status, refused.stdout) == (3, "")
    assert "an earlier launch of this bundle left pid " in refused.stderr
    assert f"end what is left: dync down {deaf.root}, or kill -KILL " in refused.stderr
    named = set(map(int, re.findall(r"left pid (\d+) \(", refused.stderr)))
    assert named == {item.pid for item in left_of(deaf.root)}
    done = dync("down", *words, str(deaf.root))
    assert done.returncode == 0, done.stderr
    said = re.findall(r"left of a launch that was killed: pid (\d+) \((\S+)\) of", done.stdout)
    assert {int(pid) for pid, _ in said} == named
    assert {name for _, name in said} >= {"cache", "worker"}
    assert deaf.left() == []
    assert "does not run from" in dync("down", str(deaf.root)).stdout


def test_a_process_that_wrote_over_its_environment_is_found_by_its_session(bundle: Bundle) -> None:
    code = "exec -c bash -c 'trap \"\" TERM; while :; do sleep 1; done'"
    bundle.add("worker", ready_timeout_s=60)
    bundle.script("worker", argv=["bash", "-c", f"{code} {bundle.marker}"])
    bundle.write()
    (bundle.root / "plan.json").write_text(PLAN.to_json())
    launch = bundle.start()
    launch.until("worker started")
    time.sleep(0.5)
    os.kill(guard_of(launch), signal.SIGKILL)
    launch.process.kill()
    launch.process.wait()
    [found, *_] = left_of(bundle.root)
    assert found.is_leader
    status, refused = bundle.run()
    assert status == 3
    assert f"left pid {found.pid} (" in refused.stderr
    assert dync("down", "--kill", str(bundle.root)).returncode == 0
    assert left_of(bundle.root) == ()


def test_a_detached_launch_that_is_killed_leaves_nothing(deaf: Bundle, wait_for: WaitFor) -> None:
    done = dync("up", "--no-verify", "--detach", str(deaf.root))
    assert done.returncode == 0, done.stderr
    pid = runner(deaf.root)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: deaf.left() == [])


def test_down_ends_no_process_that_a_file_names(bundle: Bundle, tmp_path: Path) -> None:
    """Whoever may write run/ may write any number there."""
    (bundle.root / "plan.json").write_text(PLAN.to_json())
    bundle.add("worker")
    bundle.write()
    other = tmp_path / "launch.sh"
    other.write_text("sleep 60 & wait\n")
    with subprocess.Popen(["bash", str(other)], start_new_session=True) as victim:
        try:
            (bundle.root / "run").mkdir()
            lock = bundle.root / "run/lock"
            lock.write_text(f"{victim.pid}\n")
            boot = Path("/proc/sys/kernel/random/boot_id").read_text()
            (bundle.root / "run/started").write_text(f"{boot}worker {victim.pid} 1\n")
            with subprocess.Popen(["flock", str(lock), "sleep", "60"]) as holder:
                done = dync("down", "--kill", str(bundle.root))
                subprocess.run(["kill", str(holder.pid)], check=True)
            assert "does not run from" in done.stdout
            assert victim.poll() is None
        finally:
            os.killpg(victim.pid, signal.SIGKILL)


@pytest.mark.parametrize("options", ["-eu", "-euo pipefail", "-f", "-C", "-m", "-eufmCx"])
def test_options_of_the_callers_shell_change_nothing(bundle: Bundle, options: str) -> None:
    bundle.add("cache", "--ready-after=0.3")
    bundle.add("worker", "--ready-after=0.3", after="cache")
    bundle.write()
    out = bundle.root.parent / "out"
    with out.open("wb") as file:
        launch = subprocess.Popen(
            ["bash", *options.split(), str(bundle.root / "launch.sh")],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    running = Launch(launch, out, out)
    bundle.launches.append(running)
    running.until("serves at")
    assert running.stop() == 0
    assert running.stdout.endswith("dync: stopped\n")
    assert bundle.left() == []


def test_logs_are_for_their_account_alone(bundle: Bundle) -> None:
    bundle.add("worker")
    bundle.write()
    (bundle.root / "logs").mkdir()
    (bundle.root / "logs/worker.log").touch(mode=0o644)
    before = os.umask(0o022)
    try:
        launch = bundle.start()
        launch.until("serves at")
        assert launch.stop() == 0
    finally:
        os.umask(before)
    assert (bundle.root / "logs/worker.log").stat().st_mode & 0o777 == 0o600
    assert (bundle.root / "run/messages").stat().st_mode & 0o777 == 0o600
