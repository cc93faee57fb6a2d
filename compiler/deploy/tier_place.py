"""Where a tier's folder really lies, and whether root may make it there for an account.

Links are followed once, and what they lead to is judged. Whoever owns a folder on the way, or a
link, can lead to another place at any time: only root and the account itself may.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compiler.deploy.accounts import find_account, owner_name
from compiler.deploy.installation import Host
from compiler.deploy.rooted import inside, links_on_the_way, on_the_way
from compiler.resolve.system_folders import is_within, plain, system_folder

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Why a folder cannot be a tier's, and what to do."""

    why: str
    fix: str


def misplaced(host: Host, folder: str, stacks: Path, owners: Collection[int]) -> Misplaced | None:
    """Return what is wrong with the place of a folder; None where nothing is.

    owners: whose folders and links on the way are no fault; none where nobody is given the folder.
    """
    try:
        real = inside(host.root, Path(folder))
        named = f"/{real.relative_to(host.root)}"
        others = [
            *links_on_the_way(host.root, Path(folder)),
            *on_the_way(host.root, Path(folder)),
        ]
    except OSError as error:
        return Misplaced(f"{folder} cannot be reached: {error.strerror}", "choose another path")
    leads = f"{folder} leads to {named}, which" if plain(folder) != plain(named) else folder
    if system := system_folder(named):
        return Misplaced(f"{leads} is the system's ({system})", "choose another path")
    if is_within(plain(named), plain(str(stacks))):
        return Misplaced(f"{leads} is among the stacks ({stacks})", "choose another path")
    for place, status in others:
        if owners and status.st_uid not in owners and place not in (host.root, real):
            return Misplaced(
                f"{place}, on the way to {folder}, belongs to {owner_name(status.st_uid)}, who "
                "can put another folder in its place",
                f"chown -h root:root {place}, or choose another path",
            )
    return None


def trusted_on_the_way(host: Host, account: str) -> frozenset[int]:
    """Return whose folders and links lead root to a folder that it makes for an account."""
    found = find_account(host, account) if account else None
    here = () if host.is_here else (os.geteuid(),)  # an image is its maker's
    return frozenset((0, *here, *(found or ())[:1]))


def make_folder(host: Host, folder: Path, owner: tuple[int, int], mode: int) -> None:
    """Make a folder for an account, and those above it as root's.

    folder: with every link followed. No link is followed any more, and no folder of a third account
    is entered: what was put in the place of one meanwhile is refused.
    Errors: OSError.
    """
    *above, name = folder.relative_to(host.root).parts
    trusted = {0, os.geteuid(), owner[0]}
    with _entered(host.root, above, trusted) as held:
        os.mkdir(name, mode, dir_fd=held)
        made = os.open(name, _FOLDER, dir_fd=held)
        try:
            os.fchown(made, *owner)
            os.fchmod(made, mode)
        finally:
            os.close(made)


@contextmanager
def _entered(root: Path, steps: list[str], trusted: Collection[int]) -> Iterator[int]:
    """Hold the folder at the end of some steps open; what is not there is made."""
    held = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for step in steps:
            try:
                inner = os.open(step, _FOLDER, dir_fd=held)
            except FileNotFoundError:
                os.mkdir(step, 0o755, dir_fd=held)
                inner = os.open(step, _FOLDER, dir_fd=held)
            os.close(held)
            held = inner
            owner = os.fstat(held).st_uid
            if owner not in trusted:
                raise PermissionError(f"{step} on the way to it belongs to {owner_name(owner)}")
        yield held
    finally:
        os.close(held)
