"""Keep what a running bundle writes itself, whatever its folders are: folders, links or mounts."""

from __future__ import annotations

import errno
import os
import pwd
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from compiler.bundle_paths import STATE_FOLDERS
from compiler.write.trees import walk

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


class NotKept(Exception):
    """What cannot be kept; the text says whose it is, and the command that repairs it."""


def carry_state(place: Path, fresh: Path) -> None:
    """Link logs and locks into the new bundle, so that a running launch keeps writing to them.

    A folder that is itself a link stays that link.
    Errors: NotKept; OSError.
    """
    for name in STATE_FOLDERS:
        source = place / name
        if source.is_symlink():
            os.symlink(os.readlink(source), fresh / name)
        elif source.is_dir():
            _link_folder(place, source, fresh)
        elif os.path.lexists(source):
            os.link(source, fresh / name, follow_symlinks=False)


def _link_folder(place: Path, source: Path, fresh: Path) -> None:
    def refuse(error: OSError) -> NoReturn:
        if error.errno == errno.ELOOP:
            raise NotKept(f"cannot keep {source}: {error.strerror}; nothing was changed")
        raise _not_kept(place, Path(error.filename or source)) from error

    for folder, names, files in walk(str(source), refuse):
        target = fresh / Path(folder).relative_to(place)
        target.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):  # what is replaced could not be removed
            raise _not_kept(place, Path(folder))
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for file in (*files, *links):
            try:
                with suppress(FileNotFoundError):
                    os.link(Path(folder) / file, target / file, follow_symlinks=False)
            except PermissionError as error:
                raise _not_kept(place, Path(folder) / file) from error


def _not_kept(place: Path, path: Path) -> NotKept:
    """Say whose a file is: of a launch by another account, as by sudo."""
    with suppress(OSError, KeyError):
        owner = pwd.getpwuid(os.lstat(path).st_uid).pw_name
        me = pwd.getpwuid(os.geteuid()).pw_name
        kept = " ".join(shlex.quote(str(place / name)) for name in STATE_FOLDERS)
        return NotKept(
            f"cannot keep {path}: it is {owner}'s, since {owner} launched this bundle; nothing was "
            f"changed: sudo chown -R {me} {kept}"
        )
    return NotKept(f"cannot keep {path}: it may not be read or linked; nothing was changed")


def mounted_state(place: Path) -> tuple[str, ...]:
    """Return which of a bundle's own folders are mounts, or hold some: those can only stay."""
    points = tuple(_mount_points())
    below = {name: str(place / name) for name in STATE_FOLDERS}
    return tuple(
        name
        for name, path in below.items()
        if any(point == path or point.startswith(f"{path}/") for point in points)
    )


def _mount_points() -> Iterator[str]:
    try:
        lines = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        yield _ESCAPED.sub(lambda found: chr(int(found[1], 8)), line.split(" ")[4])
