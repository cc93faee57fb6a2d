"""Talk to systemd: systemctl, systemd-analyze, journalctl."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compiler.errors import HostError

_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,NRestarts,MainPID,Result,ActiveEnterTimestamp,InvocationID"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """One unit as its manager sees it; main_pid is 0 where nothing runs.

    invocation: what the journal calls this run of it.
    """

    unit: str
    load: str
    active: str
    sub: str
    restarts: int
    main_pid: int
    result: str
    since: str
    invocation: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it runs or is on the way to it."""
        return self.active in ("active", "activating", "reloading")


@dataclass(frozen=True, slots=True)
class Systemd:
    """One service manager: the system's, or the caller's own."""

    is_system: bool

    def refuse_unless_running(self) -> None:
        """Refuse a host whose manager cannot be reached.

        Errors: HostError.
        """
        if shutil.which("systemctl") is None:
            raise HostError(
                "systemctl is missing: install systemd (apt-get install systemd), or start the "
                "bundle's launch.sh"
            )
        if self._call("show", "-p", "Version").returncode == 0:
            return
        if not self.is_system:
            raise HostError(
                "your systemd manager does not answer: log in as this user, or: loginctl "
                "enable-linger USER and set XDG_RUNTIME_DIR=/run/user/UID"
            )
        raise HostError(
            "systemd does not run this machine (no answer to systemctl): give --no-start to put "
            "the units in place only, --root DIR for an image, or start the bundle's launch.sh"
        )

    def reload(self) -> None:
        """Let the manager read its unit files again."""
        self.control("daemon-reload")

    def control(self, *words: str) -> None:
        """Run systemctl.

        Errors: HostError with what it said.
        """
        done = self._call(*words)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise HostError(f"systemctl {' '.join(words)} ended with {done.returncode}: {said}")

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a systemctl command that waits for its jobs."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(self._command("systemctl", *words), stdout=quiet, stderr=quiet)

    def show(self, units: Iterable[str]) -> dict[str, UnitState]:
        """Return the state of each unit; one that is not loaded is inactive."""
        wanted = tuple(units)
        if not wanted:
            return {}
        done = self._call("show", "-p", _PROPERTIES, "--", *wanted)
        if done.returncode:
            raise HostError(f"systemctl show ended with {done.returncode}: {done.stderr.strip()}")
        blocks = done.stdout.strip().split("\n\n")
        states = [_state(block) for block in blocks]
        return dict(zip(wanted, states, strict=True))

    def environment(self) -> dict[str, str]:
        """Return the variables that the manager hands to every service."""
        lines = self._call("show-environment").stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def verify(self, folder: Path, units: Iterable[str]) -> list[str]:
        """Let systemd-analyze read units; return each line it says, one for a silent failure."""
        if shutil.which("systemd-analyze") is None:
            raise HostError("systemd-analyze is missing: install systemd (apt-get install systemd)")
        paths = [str(folder / unit) for unit in units]
        done = subprocess.run(
            self._command("systemd-analyze", "--man=no", "verify", *paths),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SYSTEMD_LOG_LEVEL": "notice"},
        )
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        if done.returncode and not said:
            said = [f"systemd-analyze verify ended with {done.returncode}"]
        return said

    def journal(self, units: Iterable[str], *options: str) -> list[str]:
        """Return the journalctl command that shows the log of units."""
        words = [
            word for unit in units for word in ("--unit" if self.is_system else "--user-unit", unit)
        ]
        return ["journalctl", *words, *options]

    def _call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command("systemctl", *words), capture_output=True, text=True, check=False
        )

    def _command(self, program: str, *words: str) -> list[str]:
        return [program, *(() if self.is_system else ("--user",)), *words]


def _state(block: str) -> UnitState:
    values: Mapping[str, str] = dict(line.split("=", 1) for line in block.splitlines())
    return UnitState(
        unit=values["Id"],
        load=values.get("LoadState", ""),
        active=values.get("ActiveState", ""),
        sub=values.get("SubState", ""),
        restarts=int(values.get("NRestarts") or 0),
        main_pid=int(values.get("MainPID") or 0),
        result=values.get("Result", ""),
        since=values.get("ActiveEnterTimestamp", ""),
        invocation=values.get("InvocationID", ""),
    )


def become(command: list[str]) -> None:
    """Replace this program by another, which then has its terminal and its signals.

    Errors: HostError where there is none of that name.
    """
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise HostError(f"cannot run {command[0]}: {error.strerror}; install systemd") from error
