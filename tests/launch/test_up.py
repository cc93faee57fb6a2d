"""`dync up` and `dync down`, over launch.sh with fake processes."""

import contextlib
import fcntl
import io
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from compiler.cli.up import NOT_PROVED
from compiler.deploy.deployment import Deployment, Manager
from compiler.deploy.finding import passed
from compiler.deploy.launch.launcher import last_line
from compiler.deploy.launch.lock import runner
from compiler.deploy.launch.progress import Progress, Stage
from compiler.deploy.verify.proof import Proof
from compiler.deploy.verify.record import record_of
from compiler.process import ProcessName
from compiler.report.up import launch_view
from compiler.write.manifest import MANIFEST
from tests.support import AGG, plan_of

from .conftest import PATIENCE_S, Bundle

WaitFor = Callable[[Callable[[], bool]], None]
PORTS = ("frontend.port=18391", "deploy.first_port=18392")  # where nothing listens
PLAN = replace(plan_of(AGG, *PORTS), name="disagg")
CACHE, WORKER = (process.name for process in PLAN.processes)
CACHE_PORT = PLAN.processes[0].ready.port
GOOD = passed("cache-load", "aggregated-0", "LMCache served it")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def planned(bundle: Bundle) -> Bundle:
    (bundle.root / "plan.json").write_text(PLAN.to_json())
    return bundle


UP = ("up", "--no-verify")  # the processes here are no engines: nothing of them could be proved


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "compiler", *words]


def dync(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(*words), capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


class Terminal:
    """A command before a terminal of its own; what it shows, without escape sequences."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.end, theirs = os.openpty()
        os.set_blocking(self.end, False)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv(*words)],  # of util-linux, as launch.sh needs it too
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        os.close(theirs)
        self.raw = ""

    @property
    def shown(self) -> str:
        with contextlib.suppress(OSError):  # nothing there now, or the other end is closed
            while read := os.read(self.end, 65536):
                self.raw += read.decode("utf-8", "replace")
        return _ESCAPES.sub("", self.raw)

    def until(self, text: str) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < give_up, f"no {text!r} in:\n{self.shown}"
            time.sleep(0.05)

    def press_ctrl_c(self) -> None:
        os.write(self.end, b"\x03")

    def status(self) -> int:
        give_up = time.monotonic() + PATIENCE_S
        while (status := self.process.poll()) is None:
            assert time.monotonic() < give_up, self.shown
            _ = self.shown  # a full terminal would hold it up
            time.sleep(0.05)
        return status


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*words: str, **environment: str) -> Terminal:
        opened.append(Terminal(*words, **environment))
        return opened[-1]

    yield open_one
    for one in opened:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(PATIENCE_S)
        os.close(one.end)


def test_without_a_terminal_it_is_launch_sh_itself(planned: Bundle) -> None:
    planned.add(CACHE)
    planned.add(WORKER, "--exit-after=0.2", "--ready-after=60", "--status=3", after=CACHE)
    planned.write()
    done, (status, launch) = dync(*UP, str(planned.root)), planned.run()
    assert done.returncode == status == 4
    alike = [re.sub(r"pid \d+|[\d.]+ s", "…", text) for text in (done.stdout, launch.stdout)]
    assert alike[0] == alike[1]
    assert "aggregated-0 ended with status 3" in done.stderr


def test_a_terminal_shows_each_process_and_one_ctrl_c_stops_all(
    planned: Bundle, terminal: Callable[..., Terminal]
) -> None:
    planned.add(CACHE, "--lines=3")
    planned.add(WORKER, "--ready-after=1", "--lines=7", after=CACHE)
    planned.write()
    up = terminal(*UP, str(planned.root), LMCACHE_CHUNK_SIZE="512")
    up.until(f"disagg serves at {PLAN.url} after")
    assert re.search(r"aggregated-0 +aggregated +starting +\d s", up.shown)
    assert re.search(r"aggregated-0 +aggregated +ready +\d\.\d s +line 6", up.shown)
    assert "LMCACHE_CHUNK_SIZE=512 replaces the built 256" in up.shown
    up.press_ctrl_c()
    assert up.status() == 0
    assert planned.events[-4:] == [
        f"{WORKER} term",
        f"{WORKER} end",
        f"{CACHE} term",
        f"{CACHE} end",
    ]
    assert planned.left() == []


@pytest.mark.parametrize(("words", "kind"), [((), "dumb"), (("--plain",), "xterm")])
def test_a_terminal_that_moves_no_cursor_gets_plain_lines(
    planned: Bundle, terminal: Callable[..., Terminal], words: tuple[str, ...], kind: str
) -> None:
    planned.add(CACHE)
    planned.write()
    up = terminal(*UP, str(planned.root), *words, TERM=kind)
    up.until("dync: disagg serves at")
    assert "\x1b" not in up.raw
    up.press_ctrl_c()
    assert up.status() == 0
    assert planned.left() == []


def test_a_terminal_keeps_the_error_and_its_status(
    planned: Bundle, terminal: Callable[..., Terminal]
) -> None:
    planned.add(CACHE)
    planned.add(WORKER, "--exit-after=0.2", "--ready-after=60", "--lines=2", after=CACHE)
    planned.write()
    up = terminal(*UP, str(planned.root))
    assert up.status() == 4
    assert "dync: error: aggregated-0 ended with status 0" in up.shown
    assert "    line 1" in up.shown
    assert re.search(r"aggregated-0 +aggregated +ended", up.shown)
    assert planned.left() == []


def test_a_killed_up_takes_its_processes_down(
    planned: Bundle, terminal: Callable[..., Terminal], wait_for: WaitFor
) -> None:
    planned.add(CACHE)
    planned.add(WORKER, after=CACHE)
    planned.write()
    up = terminal(*UP, str(planned.root))
    up.until("serves at")
    up.process.kill()
    wait_for(lambda: planned.left() == [])


def test_detached_it_serves_until_down(planned: Bundle) -> None:
    planned.add(CACHE, "--stop-takes=0.2")
    planned.add(WORKER, after=CACHE)
    planned.write()
    done = dync(*UP, "--detach", str(planned.root))
    assert done.returncode == 0, done.stderr
    assert "disagg serves at" in done.stdout
    assert f"stop it: dync down {planned.root}" in done.stdout
    assert planned.left()
    again = dync(*UP, "--detach", str(planned.root))
    assert again.returncode == 3
    assert "runs already" in again.stderr
    stopped = dync("down", str(planned.root))
    assert stopped.returncode == 0, stopped.stderr
    assert re.search(r"disagg stopped after \d+\.\d s\n\Z", stopped.stdout)
    assert planned.left() == []
    assert dync("down", str(planned.root)).stdout == f"disagg does not run from {planned.root}\n"


def test_detached_failures_keep_their_status(planned: Bundle) -> None:
    planned.add(CACHE, "--exit-after=0.2", "--ready-after=60", "--lines=1")
    planned.write()
    done = dync(*UP, "--detach", str(planned.root))
    assert done.returncode == 4
    assert "lmcache ended with status 0" in done.stderr
    assert "    line 0\n" in done.stderr


def test_ctrl_c_before_a_detached_launch_serves_stops_it(
    planned: Bundle, wait_for: WaitFor
) -> None:
    planned.add(CACHE, "--ready-after=60")
    planned.write()
    up = subprocess.Popen(argv(*UP, "--detach", str(planned.root)), stdout=subprocess.DEVNULL)
    wait_for(lambda: runner(planned.root) is not None and bool(planned.left()))
    wait_for((planned.root.parent / "trace").exists)
    up.send_signal(signal.SIGINT)
    assert up.wait(PATIENCE_S) == 0
    assert planned.left() == []


def test_ctrl_c_works_where_it_was_ignored_before(
    planned: Bundle, terminal: Callable[..., Terminal]
) -> None:
    planned.add(CACHE)
    planned.write()
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a script's background
    try:
        up = terminal(*UP, str(planned.root))
    finally:
        signal.signal(signal.SIGINT, ignored)
    up.until("serves at")
    up.press_ctrl_c()
    assert up.status() == 0
    assert planned.left() == []


def test_down_kill_does_not_wait_for_requests(planned: Bundle) -> None:
    planned.add(CACHE, "--ignore-term", stop_s=600)
    planned.write()
    assert dync(*UP, "--detach", str(planned.root)).returncode == 0
    assert dync("down", "--kill", str(planned.root)).returncode == 0
    assert planned.left() == []


def lines_of(text: str) -> list[str]:
    """Return what was printed, without times and process ids."""
    return re.sub(r"pid \d+|[\d.]+ s\b", "…", text).splitlines()


@pytest.fixture
def written(planned: Bundle) -> Bundle:
    """Return a bundle of one process, as dync would have written it."""
    planned.add(CACHE)
    planned.write()
    (planned.root / MANIFEST).write_text(
        json.dumps({"format": 1, "files": {"launch.sh": "0" * 64}})
    )
    return planned


@pytest.mark.parametrize("words", [(), ("--detach",)])
def test_what_answers_and_is_not_proved_is_not_called_serving(
    written: Bundle, words: tuple[str, ...]
) -> None:
    done = dync("up", *words, str(written.root))
    assert done.returncode == NOT_PROVED == 7
    assert "serves" not in done.stdout
    said = lines_of(done.stdout)
    proving = "proving that it does what it was built for (--no-verify leaves this out)"
    assert f"dync: disagg answers after …; {proving}" in said
    assert said[-1] == "dync: stopped"
    assert lines_of(done.stderr) == [
        "dync: error: disagg answers, but is not proved to do what it was built for",
        f"    lmcache as-built: no cache server listens on port {CACHE_PORT}: its workers cache "
        "nothing",
        "    aggregated-0 as-built: nothing listens on its port 18391",
        "    look at it as it runs: dync up --no-verify, then dync verify",
    ]
    assert written.left() == []
    record = json.loads((written.root / "run" / "proof.json").read_text())
    assert record["verdict"] == "fail"
    shown = dync("status", str(written.root)).stdout
    assert f"not proved on {record['at'][:10]}" in shown
    assert "aggregated-0 as-built: nothing listens on its port 18391" in shown


def test_a_display_says_why_it_is_not_proved(
    written: Bundle, terminal: Callable[..., Terminal]
) -> None:
    up = terminal("up", str(written.root))
    assert up.status() == NOT_PROVED
    assert "dync: error: disagg answers, but is not proved" in up.shown
    assert "serves at" not in up.shown


def proved_before(bundle: Bundle, **changes: str) -> None:
    """Write down that it was proved, of the files as they are; or otherwise, as changes say."""
    (bundle.root / "run").mkdir(exist_ok=True)
    place = Deployment(named="", plan=PLAN, folder=bundle.root, manager=Manager.NONE)
    proof = Proof(name="", url="", manager="", findings=(GOOD,), processes=(), took_s=1)
    record = {**asdict(record_of(place, proof)), "at": "2026-01-02T03:04:05Z", **changes}
    (bundle.root / "run" / "proof.json").write_text(json.dumps(record))


def test_a_bundle_that_was_proved_and_is_unchanged_is_not_asked_again(written: Bundle) -> None:
    proved_before(written)
    done = dync("up", "--detach", str(written.root))
    assert done.returncode == 0, done.stderr
    proof = r", proved \(unchanged since 2026-01-02\)$"
    assert re.search(r"disagg serves at \S+ after \S+ s" + proof, done.stdout, re.M)
    assert "proved on 2026-01-02 at 03:04 UTC" in dync("status", str(written.root)).stdout
    assert dync("down", str(written.root)).returncode == 0
    edited = (written.root / "launch.sh").read_text() + "# edited\n"
    (written.root / "launch.sh").write_text(edited)
    assert dync("up", "--detach", str(written.root)).returncode == NOT_PROVED


@pytest.mark.parametrize("content", ["", "null", "{}", "[" * 200_000, "\0" * 9])
def test_a_proof_that_cannot_be_read_is_none(written: Bundle, content: str) -> None:
    (written.root / "run").mkdir()
    file = written.root / "run" / "proof.json"
    file.write_text(content)
    assert "not proved here" in dync("status", str(written.root)).stdout
    file.unlink()
    os.mkfifo(file)
    assert "not proved here" in dync("status", str(written.root)).stdout
    file.unlink()
    file.mkdir()
    assert dync("up", str(written.root)).returncode == NOT_PROVED
    assert [path.name for path in file.parent.glob("*proof*")] == ["proof.json"]


def test_a_reader_that_leaves_stops_nothing(written: Bundle) -> None:
    command = shlex.join(argv("up", "--plain", "--no-verify", str(written.root)))
    ends = f"{command} | head -1; echo ${{PIPESTATUS[0]}}"
    with subprocess.Popen(["bash", "-c", ends], stdout=subprocess.PIPE, text=True) as shell:
        until = time.monotonic() + PATIENCE_S
        while runner(written.root) is None or not written.left():
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1)
        assert dync("down", str(written.root)).returncode == 0
        out, _ = shell.communicate(timeout=PATIENCE_S)
    assert out.split()[-1] == "0"


def test_another_hosts_proof_and_one_of_a_switched_launch_count_for_nothing(
    written: Bundle,
) -> None:
    proved_before(written, of="0" * 64)
    assert dync("up", str(written.root)).returncode == NOT_PROVED
    proved_before(written)
    switched = subprocess.run(
        argv("up", str(written.root)),
        env={**os.environ, "LMCACHE_CHUNK_SIZE": "512"},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert switched.returncode == NOT_PROVED


def test_what_is_asked_to_run_without_lmcache_is_not_asked_for_a_proof(written: Bundle) -> None:
    off = {**os.environ, "ENABLE_LMCACHE": "0"}
    command = argv("up", "--detach", str(written.root))
    done = subprocess.run(
        command, env=off, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"serves at \S+ after \S+ s, not asked to be proved$", done.stdout, re.M)
    assert dync("down", str(written.root)).returncode == 0


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    for command in ("up", "down"):
        done = dync(command, str(tmp_path))
        assert done.returncode == 1
        assert "is no bundle" in done.stderr


def test_a_lock_that_nobody_holds_is_no_launch(planned: Bundle) -> None:
    assert runner(planned.root) is None
    (planned.root / "run").mkdir()
    (planned.root / "run/lock").write_text(f"{os.getpid()}\n")
    assert runner(planned.root) is None


def test_processes_that_are_not_started_are_not_waited_for() -> None:
    progress = Progress.of(PLAN)
    assert not progress.read("dync: ENABLE_LMCACHE=0 replaces the built 1", 0)
    assert progress.processes[CACHE].stage is Stage.LEFT_OUT
    assert progress.processes[WORKER].stage is Stage.WAITING


def test_what_is_shown_at_each_stage() -> None:
    progress, out = Progress.of(PLAN), io.StringIO()
    console = Console(file=out, width=78, color_system=None)

    def shown(*lines: str, now_s: float = 0) -> list[str]:
        for line in lines:
            progress.read(line, now_s)
        out.truncate(out.seek(0))
        console.print(launch_view(progress, {WORKER: "loading " + "x" * 99}, now_s + 4))
        return [line.rstrip() for line in out.getvalue().splitlines()]

    first = shown(f"dync: {CACHE} started (pid 1, log logs/{CACHE}.log)")
    assert first == [
        "disagg is starting: 0 of 2 processes ready",
        "process       role          state       after  last log line",
        "lmcache       cache server  starting      4 s",
        f"aggregated-0  aggregated    waiting            loading {'x' * 20}…",
    ]
    serving = shown(
        f"dync: {CACHE} ready after 5.1 s",
        f"dync: {WORKER} started (pid 2, log logs/{WORKER}.log)",
        f"dync: {WORKER} ready after 31.0 s",
        f"dync: disagg serves at {PLAN.url} after 31.2 s",
        now_s=9,
    )
    assert serving[0] == f"disagg serves at {PLAN.url} after 31.2 s; Ctrl-C stops it"
    assert "ready      31.0 s" in serving[3]
    stopping = shown("dync: SIGINT: stopping (once more to kill at once)")
    assert stopping[0] == "disagg is stopping; Ctrl-C once more kills what is left"
    over = shown(f"dync: error: {WORKER} ended with status 1 after 9.0 s; …", "dync: stopped")
    assert over[0] == "disagg has stopped"
    assert [line.split()[2] for line in over[3:]] == ["ended"]
    assert "stopped" in over[2]


def test_the_last_line_is_plain_text(planned: Bundle) -> None:
    (planned.root / "logs").mkdir()
    log = planned.root / "logs" / "x.log"
    assert last_line(planned.root, ProcessName("x")) == ""
    log.write_bytes(b"first\n\x1b[32;20mloading\x1b[0m 10%\rloading 90% \xff\x07\n\n")
    assert last_line(planned.root, ProcessName("x")) == "loading 90% \ufffd"
