"""Start a program in a session of its own, wait until it answers, stop all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A command line, what it listens on, and where it answers 200 when it is ready."""

    name: str
    argv: tuple[str, ...]
    port: int
    ready_path: str = "/health"
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return the base of its HTTP API."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(slots=True)
class Running:
    """A started line; ready_s is None until it answered."""

    line: Line
    process: subprocess.Popen[bytes]
    log: Path
    began: float
    ready_s: float | None = None

    def kill(self, which: signal.Signals = signal.SIGKILL) -> None:
        """Signal the whole session."""
        try:
            os.killpg(self.process.pid, which)
        except ProcessLookupError:
            return

    def stop(self, patience_s: float = 20) -> None:
        """End it: TERM, then KILL of the group."""
        self.kill(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self.kill()
        self.process.wait()

    def tail(self, lines: int = 25) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def start(line: Line, logs: Path) -> Running:
    """Start a line; its output goes to a file in `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{line.name}.log"
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            line.argv,
            env={**os.environ, **line.env},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(line, process, log, time.monotonic())


def answers(url: str, timeout_s: float = 2) -> bool:
    """Return whether a URL answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def wait_ready(engines: Sequence[Running], timeout_s: float) -> list[Running]:
    """Wait for all at once; give those that are ready, in their order."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        waiting = [e for e in engines if e.ready_s is None and e.process.poll() is None]
        if not waiting:
            break
        for engine in waiting:
            if answers(engine.line.url + engine.line.ready_path):
                engine.ready_s = time.monotonic() - engine.began
                print(f"  {engine.line.name} ready after {engine.ready_s:.1f} s", flush=True)
        time.sleep(0.2)
    for engine in engines:
        if engine.ready_s is None:
            print(f"  {engine.line.name} is NOT READY:\n{engine.tail()}", flush=True)
    return [engine for engine in engines if engine.ready_s is not None]


@contextmanager
def running(lines: Sequence[Line], logs: Path, timeout_s: float = 240) -> Iterator[list[Running]]:
    """Run lines side by side; what is not ready in time is left out and reported."""
    with ExitStack() as stack:
        engines = []
        for line in lines:
            engine = start(line, logs)
            stack.callback(engine.kill)
            engines.append(engine)
        yield wait_ready(engines, timeout_s)
        for engine in engines:
            engine.kill(signal.SIGTERM)
        time.sleep(3)


def gpu_used_mib() -> int:
    """Return the memory in use on the first GPU, in MiB; 0 without one."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    try:
        return int(subprocess.run(query, capture_output=True, check=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 0
