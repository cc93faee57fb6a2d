"""Go through folders that another account may have filled: as deep as it likes, or as odd."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count

DEEPEST = 100
"""Folders within folders; a bundle has three, what programs keep in theirs a dozen."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(
    top: str, onerror: Callable[[OSError], object] = lambda _error: None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Give each folder with the names of its folders and of all else, as os.walk does.

    os.walk of Python 3.11 and before calls itself for each folder, and so ends in RecursionError.
    onerror: told of a folder that cannot be read, or lies deeper than any of ours.
    """
    todo = [(top, 0)]
    while todo:
        folder, depth = todo.pop()
        names: list[str] = []
        rest: list[str] = []
        try:
            if depth > DEEPEST:
                why = f"folders lie in it more than {DEEPEST} deep"
                raise OSError(errno.ELOOP, why, folder)
            with os.scandir(folder) as entries:
                for entry in entries:
                    (names if entry.is_dir() else rest).append(entry.name)
        except OSError as error:
            onerror(error)
            continue
        yield folder, names, rest
        below = [os.path.join(folder, name) for name in names]
        todo += [(path, depth + 1) for path in reversed(below) if not os.path.islink(path)]


def remove(folder: str | os.PathLike[str]) -> None:
    """Remove a folder and all in it, as far as that may be; what stays is no error.

    Each folder within is brought up to the first one before it is emptied: shutil.rmtree calls
    itself for each, and a path may be longer than the system takes. No link is followed.
    """
    with suppress(OSError):
        top = os.open(folder, _FOLDER)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(folder)


def _empty(top: int) -> None:
    numbers = count()
    todo = list(_without_files(top, top, numbers))
    while todo:
        name = todo.pop()
        with suppress(OSError):
            inner = os.open(name, _FOLDER, dir_fd=top)
            try:
                todo += _without_files(inner, top, numbers)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _without_files(folder: int, top: int, numbers: Iterator[int]) -> list[str]:
    """Remove what is no folder of a folder; return where in the first one the others lie now."""
    with os.scandir(folder) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    found = []
    for name, is_folder in listed:
        with suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
            elif folder == top:
                found.append(name)
            elif not _is_removed(name, folder):
                found.append(_brought_up(name, folder, top, numbers))
    return found


def _is_removed(name: str, folder: int) -> bool:
    """Remove a folder that is empty: one that is not may be moved by who may write it alone."""
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:
        return False
    return True


def _brought_up(name: str, folder: int, top: int, numbers: Iterator[int]) -> str:
    for number in numbers:
        place = f".dync-removed-{number}"
        try:
            os.stat(place, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, place, src_dir_fd=folder, dst_dir_fd=top)
            return place
    raise AssertionError("numbers have no end")
