"""Read files of a folder that another account may have written, and may change meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 256_000_000
"""More than any file of a bundle: the plan of 10,000 workers has a fifth of it."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe is not waited for


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of one file, and what the file was while it was read."""

    content: bytes
    status: os.stat_result


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Hold a folder open; links on the way to it are followed, since whoever asks named them.

    Errors: OSError.
    """
    handle = os.open(folder, _FOLDER)
    try:
        yield handle
    finally:
        os.close(handle)


def read_below(folder: int, path: str, most_bytes: int = MAX_BYTES) -> Read:
    """Read a regular file below an open folder, following no link on the way.

    Errors: OSError, also for what is no regular file, or larger than any of a bundle.
    """
    *above, name = path.split("/")
    held = folder
    try:
        for step in above:
            inner = os.open(step, _FOLDER | os.O_NOFOLLOW, dir_fd=held)
            if held != folder:
                os.close(held)
            held = inner
        handle = os.open(name, _FILE, dir_fd=held)
        with open(handle, "rb"):
            return _read(handle, most_bytes)
    except OSError as error:
        raise _said(error, path) from None
    finally:
        if held != folder:
            os.close(held)


def read_file(path: Path, most_bytes: int = MAX_BYTES) -> bytes:
    """Read one regular file that is no link.

    Errors: OSError.
    """
    with opened(path.parent) as folder:
        return read_below(folder, path.name, most_bytes).content


def read_named(path: Path, most_bytes: int = 1 << 20) -> bytes:
    """Read a file that a profile or the system names; links to it are followed.

    Errors: OSError, also for what is no regular file, or larger.
    """
    with held_open(Path(os.path.realpath(path))) as handle:
        return _read(handle, most_bytes).content


@contextmanager
def held_open(path: Path) -> Iterator[int]:
    """Hold a regular file open that is no link; a pipe is not waited for.

    Errors: OSError.
    """
    try:
        handle = os.open(path, _FILE)
    except OSError as error:
        raise _said(error, path) from None
    try:
        _refuse_other_kinds(os.fstat(handle))
        yield handle
    finally:
        os.close(handle)


def _refuse_other_kinds(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def _said(error: OSError, path: Path | str) -> OSError:
    """Return an error in words: which kind of thing lies there that is not opened."""
    if error.errno == errno.ELOOP:
        return OSError(errno.ELOOP, "a link, which is not followed", str(path))
    if error.errno == errno.ENXIO:  # a socket, or a device without a driver
        return OSError(errno.EINVAL, "not a regular file", str(path))
    return error


def _read(handle: int, most_bytes: int) -> Read:
    status = os.fstat(handle)
    _refuse_other_kinds(status)
    parts, size = [], 0
    while part := os.read(handle, 1 << 20):
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise OSError(errno.EFBIG, f"larger than {most_bytes} bytes")
    return Read(b"".join(parts), status)
