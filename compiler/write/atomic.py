"""Put files, links and folders in place by one rename, and bring their folders to the disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".dync-new"
"""What ends the hidden name of a file that is not in its place yet."""


def put_file(path: Path, content: bytes, mode: int) -> None:
    """Write beside a file's place, bring it to the disk, then rename it there.

    What a kill left behind is written again; of a failure nothing is left.
    Errors: OSError.
    """
    fresh = _beside(path)
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise


def put_link(path: Path, target: str) -> None:
    """Make a symbolic link, in place of whatever stands there.

    Errors: OSError.
    """
    fresh = _beside(path)
    os.symlink(target, fresh)
    os.replace(fresh, path)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    """Return a place beside a path for what will be renamed there; what a kill left is removed."""
    fresh = path.with_name(f".{path.name}{UNFINISHED}")
    with suppress(FileNotFoundError):
        fresh.unlink()
    return fresh
