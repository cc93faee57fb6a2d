"""Read run/lock: whether a launch.sh runs a bundle, and whether it is this very bundle's.

A `run` folder may be a link to another bundle's, and a copy of hard links shares its files: a lock
that is held says nothing until it is seen whose it is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from compiler.bundle_paths import LAUNCH_SCRIPT, LOCK
from compiler.deploy.launch.marks import mark_of, namespace_in
from compiler.errors import HostError
from compiler.write.safe_read import held_open

_LONGEST = 1 << 16


def is_alive(pid: int) -> bool:
    """Return whether a process is there; one that nobody has waited for is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def runner(bundle: Path) -> int | None:
    """Return the pid of the launch.sh that runs a bundle, or None.

    Errors: HostError where that cannot be told.
    """
    with _lock_of(bundle) as lock:
        if lock is None:
            return None
        pid, mark = _written_in(lock)
        # Asked only beside a launch.sh that lives: one that starts now must not find it taken.
        is_it = _is_launcher(pid) and _has_open(pid, lock) and _is_of(pid, mark, bundle)
        return pid if is_it and _is_held(lock) else None


def runs_elsewhere(bundle: Path) -> bool:
    """Return whether a bundle runs where its processes have other numbers: in a container.

    Errors: HostError where that cannot be told.
    """
    with _lock_of(bundle) as lock:
        if lock is None:
            return False
        _, mark = _written_in(lock)
        return bool(mark) and namespace_in(mark) != namespace_in(mark_of(bundle)) and _is_held(lock)


@contextmanager
def _lock_of(bundle: Path) -> Iterator[int | None]:
    place = bundle / LOCK
    try:
        with ExitStack() as held:
            lock = None
            with suppress(FileNotFoundError, NotADirectoryError):
                lock = held.enter_context(held_open(place))
            yield lock
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise HostError(f"cannot tell whether {bundle} runs: {place}: {why}") from error


def _written_in(lock: int) -> tuple[int, bytes]:
    """Return the launcher's pid, and the mark of what it launches; as lib/dync.sh writes both.

    Errors: ValueError.
    """
    holder, mark = (*os.pread(lock, _LONGEST, 0).split(b"\n"), b"", b"")[:2]
    return int((holder.split() or [b"0"])[0]), mark


def _is_launcher(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return LAUNCH_SCRIPT.encode() in words and is_alive(pid)


def _has_open(pid: int, lock: int) -> bool:
    """Return whether a process has the lock's file open: whoever may write the file names any.

    Of another account's process that cannot be seen; nor can it be signalled then.
    """
    wanted = os.fstat(lock)
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return True
    except OSError:
        return False
    for number in numbers:
        with suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted):
                return True
    return False


def _is_of(pid: int, mark: bytes, bundle: Path) -> bool:
    """Return whether a launcher is a bundle's own: it stands in its folder.

    Or in one that a build has replaced since; then the place tells, which it wrote into the lock.
    """
    try:
        stands_in = os.readlink(f"/proc/{pid}/cwd")
        if os.path.samestat(os.stat(f"/proc/{pid}/cwd"), os.stat(bundle)):
            return True
    except PermissionError:
        return mark == mark_of(bundle)
    except OSError:
        return False
    old = f".{os.path.basename(os.path.realpath(bundle))}.dync-"
    is_replaced = stands_in.endswith(" (deleted)") or os.path.basename(stands_in).startswith(old)
    return is_replaced and mark == mark_of(bundle)


def _is_held(lock: int) -> bool:
    """Return whether a launcher holds its lock; the file outlives it and a rebuild."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
