"""Find the processes of a bundle's launches by the marks that launch.sh gives them.

What is left of a launch whose launch.sh was killed has no parent to be asked: each process bears
the bundle's place in its environment, and the sessions that were made stand in run/started, for
those which write over their environment (as vllm-router 0.1.17 does).
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from compiler.bundle_paths import STARTED
from compiler.write.safe_read import held_open

_MARK, _NAME = b"DYNC_LAUNCH=", b"DYNC_PROCESS="
_LONGEST = 1 << 20
_LEFT_S, _KILLED_S = 1.0, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """One process that a launch left; is_ours: whether this account may end it."""

    pid: int
    what: str
    account: str
    is_leader: bool
    is_ours: bool

    @property
    def said(self) -> str:
        """Return it in words."""
        return f"pid {self.pid} ({self.what}) of {self.account}"


def account_name(uid: int) -> str:
    """Return the name of an account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def mark_of(bundle: Path) -> bytes:
    """Return the mark of what is launched from a bundle, as templates/lib/owners.sh makes it.

    The PID namespace and the bundle's place in it: a container may have another bundle there.
    """
    try:
        namespace = re.sub(r"[^0-9]", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        namespace = ""
    place = os.fsencode(os.path.realpath(bundle)).replace(b"\n", b"%0A")
    return namespace.encode() + b":" + place


def namespace_in(mark: bytes) -> bytes:
    """Return the PID namespace that a mark names."""
    return mark.partition(b":")[0]


def is_marked(pid: int, mark: bytes) -> bool:
    """Return whether a process bears a mark; one that may not be looked into bears none."""
    return _MARK + mark in _environment(pid)


def left_of(bundle: Path) -> tuple[Left, ...]:
    """Return what runs of a bundle's launches, the first started first.

    A mark counts where the process is this account's or the bundle's owner's, a session where it is
    the account's that wrote it down: nobody can name another's processes.
    """
    mark, sessions = mark_of(bundle), _sessions(bundle)
    known = {os.geteuid(), os.stat(bundle).st_uid}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            uid = os.stat(f"/proc/{process.pid}").st_uid
            session = os.getsid(process.pid)
            is_of_session = sessions.get(session) == uid
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            if is_of_session or (uid in known and is_marked(process.pid, mark)):
                found.append((process.create_time(), _left(process, uid, session)))
    return tuple(item for _, item in sorted(found, key=lambda pair: (pair[0], pair[1].pid)))


def _left(process: psutil.Process, uid: int, session: int) -> Left:
    names = [word for word in _environment(process.pid) if word.startswith(_NAME)]
    name = names[0][len(_NAME) :].decode("utf-8", "replace") if names else process.name()
    return Left(
        pid=process.pid,
        what=name,
        account=account_name(uid),
        is_leader=session == process.pid,
        is_ours=os.geteuid() in (0, uid),
    )


def _environment(pid: int) -> frozenset[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return frozenset(file.read(_LONGEST).split(b"\0"))
    except OSError:
        return frozenset()


def _sessions(bundle: Path) -> dict[int, int]:
    """Return the sessions that were made, and the account that wrote them down.

    A number that leads another session now, with another start, was given away: nothing is left.
    Nor is there of what another bundle wrote: `run` may be a link to its, or share its files.
    """
    try:
        with held_open(bundle / STARTED) as file:
            uid = os.fstat(file).st_uid
            boot, mark, *lines = (*os.pread(file, _LONGEST, 0).split(b"\n"), b"", b"")
        if boot != Path("/proc/sys/kernel/random/boot_id").read_bytes().strip():
            return {}
    except OSError:
        return {}
    if mark != mark_of(bundle):
        return {}
    found = {}
    for line in lines:
        words = line.decode("ascii", "replace").split()
        if len(words) == 3 and words[1].isdecimal() and _started_at(words[1]) in ("", words[2]):
            found[int(words[1])] = uid
    return found


def forget(bundle: Path) -> None:
    """Forget the sessions of a launch of which nothing is left: their numbers are given again."""
    with suppress(OSError):
        with held_open(bundle / STARTED) as file:
            is_own = os.pread(file, _LONGEST, 0).split(b"\n")[1:2] == [mark_of(bundle)]
        if is_own:
            os.unlink(bundle / STARTED)


def _started_at(pid: str) -> str:
    """Return the clock tick of a process's start; empty where it has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def end_left(bundle: Path, *, grace_s: float) -> Iterator[float]:
    """End what is left of a bundle; return the seconds since, again and again until it has gone.

    As launch.sh does: leaders are asked and have their time, what they leave is killed after a
    second. It ends too where something stays for all that.
    """
    began = time.monotonic()
    kill_at, killed_at, is_asked = began + grace_s, None, False
    while left := [item for item in left_of(bundle) if item.is_ours]:
        now = time.monotonic()
        leaders = [item for item in left if item.is_leader]
        if not leaders:
            kill_at = min(kill_at, now + _LEFT_S)
        if now >= kill_at:
            killed_at = killed_at or now
            _signal(left, signal.SIGKILL)
            if now > killed_at + _KILLED_S:
                return
        elif not is_asked:
            _signal(leaders, signal.SIGTERM)
        is_asked = True
        yield now - began
        time.sleep(0.1)


def _signal(left: list[Left], signum: int) -> None:
    for item in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(item.pid, signum)
