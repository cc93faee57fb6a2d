"""Follow paths of an image as the image itself will: its links never lead to this machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOST_LINKS = 40  # as many as Linux follows


def inside(root: Path, path: Path) -> Path:
    """Return where a path of an image lies on this machine, with every link of it followed there.

    Errors: OSError where links lead in a circle.
    """
    return root.joinpath(*_followed(root, path)[0][-1])


def on_the_way(root: Path, path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Return each folder on the way to a path, links followed, and at last what lies there.

    What is not there ends it. Errors: OSError.
    """
    for steps in _followed(root, path)[0]:
        place = root.joinpath(*steps)
        try:
            yield place, os.lstat(place)
        except FileNotFoundError:
            return


def links_on_the_way(root: Path, path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Return each link that the way to a path goes through.

    Errors: OSError.
    """
    for steps in _followed(root, path)[1]:
        place = root.joinpath(*steps)
        yield place, os.lstat(place)


def _followed(root: Path, path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return the steps below root to each place that the way to a path goes through, and links."""
    todo = list(reversed(path.parts[1:]))
    done: list[str] = []
    seen: list[list[str]] = [[]]
    links: list[list[str]] = []
    while todo:
        step = todo.pop()
        if step == "..":
            del done[-1:]
            continue
        try:
            target = os.readlink(root.joinpath(*done, step))
        except OSError:  # no link, or not there
            done.append(step)
            seen.append([*done])
            continue
        links.append([*done, step])
        if len(links) > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        if target.startswith("/"):
            done.clear()
        todo += reversed([part for part in PurePosixPath(target).parts if part != "/"])
    if seen[-1] != done:
        seen.append([*done])
    return seen, links
