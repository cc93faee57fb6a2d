"""Find what a stack has in common with earlier stacks of the same pack.

Two releases share most of their files, and some libraries but for a few names that a compiler
made up: of those only the blocks that differ travel.
"""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4096
ALIKE = 16  # of so many blocks at most one may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A stack as it travels: its files under site, and what earlier stacks have of it.

    A shared file that lies under site too differs from the owner's in some blocks.
    """

    stack: str
    source: Path
    site: Path
    files: tuple[str, ...]
    shared: Mapping[str, tuple[str, ...]]
    commands: Mapping[str, str]


def owner_of_same(name: str, path: Path, earlier: Sequence[Assembled]) -> str | None:
    """Return the stack that brings the same bytes to the same path."""
    for one in earlier:
        # What was cut there is cut alike here, so the uncut files decide.
        if (one.site / name).is_file() and filecmp.cmp(one.source / name, path, shallow=False):
            return one.stack
    return None


def owner_of_alike(name: str, path: Path, earlier: Sequence[Assembled]) -> str | None:
    """Return the stack whose file at the same path differs in few blocks from this one."""
    size = path.stat().st_size
    for one in earlier:
        theirs = one.site / name
        is_comparable = theirs.is_file() and theirs.stat().st_size == size >= BLOCK * ALIKE
        if is_comparable and len(changes(theirs, path)) * BLOCK * ALIKE <= size:
            return one.stack
    return None


def changes(theirs: Path, mine: Path) -> list[tuple[int, bytes]]:
    """Return where mine differs from theirs, which has the same size, in whole blocks."""
    found = []
    with theirs.open("rb") as before, mine.open("rb") as after:
        at = 0
        while data := after.read(BLOCK):
            if before.read(BLOCK) != data:
                found.append((at, data.ljust(BLOCK, b"\0")))
            at += BLOCK
    return found
