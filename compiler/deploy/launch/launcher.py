"""Run a bundle's own launch.sh: in front, followed line by line, or behind, and stop it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from compiler.bundle_paths import LAUNCH_LOG, LAUNCH_SCRIPT, LOGS_FOLDER, log_file
from compiler.deploy.launch.lock import runner
from compiler.errors import HostError
from compiler.process import ProcessName
from compiler.write.safe_read import held_open

_TAIL_BYTES = 8192
_LOOK_S = 0.25
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


def become_launch(bundle: Path) -> NoReturn:
    """Become launch.sh: its lines, signals and exit status are then those of the command.

    Errors: HostError where it cannot be run.
    """
    argv = _argv(bundle)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise HostError(f"cannot run {' '.join(argv)}: {error.strerror}") from error


class Launcher:
    """A launch.sh that runs; behind, it outlives this process and writes logs/launch.log.

    In front it dies with this process, however that ends. Its error lines come among the others.
    Errors: HostError where it cannot be run.
    """

    def __init__(self, bundle: Path, *, behind: bool) -> None:
        self.bundle = bundle
        self._is_asked = False
        self._behind = behind
        argv = _argv(bundle)
        if not behind and (guard := shutil.which("setpriv")):
            argv = [guard, "--pdeathsig", "TERM", "--", *argv]
        try:
            if behind:
                (bundle / LOGS_FOLDER).mkdir(mode=0o755, exist_ok=True)
                place = bundle / LAUNCH_LOG
                with suppress(FileNotFoundError):
                    place.unlink()  # whatever lies there, a pipe or a link
                with open(place, "xb", opener=_private) as out:
                    self._process = self._start(argv, out.fileno())
                    self._lines = os.open(f"/proc/self/fd/{out.fileno()}", os.O_RDONLY)
            else:
                self._lines, writing = os.pipe()
                os.set_blocking(self._lines, False)
                self._process = self._start(argv, writing)
                os.close(writing)
        except OSError as error:
            raise HostError(f"cannot launch {bundle}: {error.strerror or error}") from error
        self._rest = b""

    @staticmethod
    def _start(argv: list[str], out: int) -> subprocess.Popen[bytes]:
        # A session of its own: a Ctrl-C reaches this process alone, which hands it on once.
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def lines(self) -> Iterator[str]:
        """Return the lines that were printed since the last call."""
        while True:
            try:
                read = os.read(self._lines, 65536)
            except BlockingIOError:
                return
            if not read:
                return
            *whole, self._rest = (self._rest + read).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")

    def ended(self, within_s: float) -> int | None:
        """Wait a moment; return the exit status if it ended, as a shell would."""
        try:
            status = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None
        return 128 - status if status < 0 else status

    def signal(self, signum: int) -> None:
        """Hand a signal on; a second one kills what still runs."""
        self._is_asked = True
        self._process.send_signal(signum)

    def __enter__(self) -> Launcher:
        """Return itself."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stop what still runs in front, or behind where nobody got to call it serving."""
        if self._process.poll() is None and (not self._behind or kind is not None):
            if not self._is_asked:
                self.signal(signal.SIGTERM)
            if not self._behind:
                self._drain()
        os.close(self._lines)

    def _drain(self) -> None:
        """Read what it says until it has ended: it stops its processes one after the other."""
        while self.ended(_LOOK_S) is None:
            for _ in self.lines():
                pass


def _private(path: str, flags: int) -> int:
    """Open a log that is for its account alone, as launch.sh makes the others."""
    return os.open(path, flags, 0o600)


def last_line(bundle: Path, process: ProcessName) -> str:
    """Return the last line of a process's log that says something, without control characters."""
    try:
        with (
            held_open(bundle / log_file(process)) as handle,
            open(handle, "rb", closefd=False) as log,
        ):
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = (_CONTROL.sub("", line).strip() for line in reversed(re.split("[\r\n]", text)))
    return next((line for line in lines if line), "")


def stop(bundle: Path, pid: int, *, kill: bool) -> Iterator[float]:
    """Ask a running launch.sh to stop; return the seconds since, again and again until it has.

    kill: stop its processes at once, as a second Ctrl-C does.
    Errors: HostError where it may not be signalled.
    """
    began = time.monotonic()
    _ask(pid)
    again_s = (
        0.5 if kill else float("inf")
    )  # launch.sh takes what comes sooner for the same request
    while runner(bundle) == pid:
        took = time.monotonic() - began
        if took > again_s:
            again_s = float("inf")
            _ask(pid)
        yield took
        time.sleep(0.1)


def _ask(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise HostError(f"launch.sh (pid {pid}) is another user's: stop it as that user") from error


def _argv(bundle: Path) -> list[str]:
    """Run it with bash: a copied bundle may have lost its execute bits."""
    return ["bash", str(bundle.resolve() / LAUNCH_SCRIPT)]
