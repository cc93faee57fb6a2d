"""Who else may change what the system's units start: a stack or bundle must be root's alone.

Each folder on the way to a file is looked at, with links followed: whoever may write one can put
another file in the place of what it holds. In a folder that all may write and whose mode is sticky
(/tmp) nobody can replace what is there and root's, so one on the way is no fault; one that is
looked into is, as a program can be added there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from compiler.bundle_paths import PLAN
from compiler.deploy.accounts import owner_name
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed
from compiler.deploy.rooted import on_the_way
from compiler.write.manifest import NotWritten, read_files

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0


class Owned(NamedTuple):
    """A file or folder, whose it is, and who may write it."""

    path: Path
    owner: int
    mode: int


def check(subject: Subject) -> Iterator[Finding]:
    """Look at the stack's programs and packages, and at the bundle's files."""
    if not subject.is_by_root:
        return
    trusted = trusted_owners(subject)
    stack = others_of_stack(subject)
    if stack:
        yield _finding("stack", stack, subject.host.at(subject.stack_folder))
    bundle = [item for item in _bundle(subject) if _is_others(item, trusted)]
    if bundle:
        yield _finding("bundle", bundle, subject.folder)
    if not stack and not bundle:
        yield passed("ownership", str(subject.stack_folder), "nobody but root can change it")


def trusted_owners(subject: Subject) -> frozenset[int]:
    """Return whose files are no fault: root's, and in an image those of whoever makes it."""
    return frozenset((_ROOT,) if subject.host.is_here else (_ROOT, os.geteuid()))


def others_of_stack(subject: Subject) -> list[Owned]:
    """List what others may change of the programs, and of what these load first."""
    trusted, found, seen = trusted_owners(subject), [], set()
    for path in _looked_at(subject):
        way = list(on_the_way(subject.host.root, path))
        for place, status in way:
            is_on_the_way = place != way[-1][0]
            if (place, is_on_the_way) in seen:
                continue
            seen.add((place, is_on_the_way))
            item = Owned(place, status.st_uid, status.st_mode)
            if _is_others(item, trusted, is_on_the_way=is_on_the_way):
                found.append(item)
    return found if subject.host.is_here else [i for i in found if i.path != subject.host.root]


def _looked_at(subject: Subject) -> Iterator[Path]:
    """List the programs, everything beside the stack's own, and the folders of its packages."""
    yield from dict.fromkeys(Path(process.argv[0]) for process in subject.plan.processes)
    folder = subject.stack_folder
    packages = sorted(subject.host.at(folder).glob("lib/python3*/site-packages"))
    below = [folder / path.relative_to(subject.host.at(folder)) for path in packages]
    for listed in (folder, subject.program.parent, *below):
        yield listed
        yield from (listed / name for name in _names(subject.host.at(listed)))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _bundle(subject: Subject) -> Iterator[Owned]:
    """List what of a bundle is there: its folders, and the files as they were read."""
    folder = subject.folder
    if not os.path.lexists(folder / PLAN):
        return
    try:
        files = subject.files if subject.files is not None else read_files(folder).files
    except NotWritten:
        return
    folders = {parent for path in files for parent in Path(path).parents}
    for below in sorted(folders):
        status = os.stat(folder / below)
        yield Owned(folder / below, status.st_uid, status.st_mode)
    for path, file in files.items():
        yield Owned(folder / path, file.owner, file.mode)


def _is_others(item: Owned, trusted: Iterable[int], *, is_on_the_way: bool = False) -> bool:
    is_kept = is_on_the_way and item.mode & stat.S_ISVTX and item.owner == _ROOT
    return item.owner not in trusted or bool(item.mode & _OTHERS and not is_kept)


def _finding(check_id: str, found: list[Owned], whole: Path) -> Finding:
    first = found[0]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    what = f"owner {owner_name(first.owner)}, mode {stat.S_IMODE(first.mode):04o}"
    is_below = whole in (first.path, *first.path.parents)
    place, all_below = (whole, "-R ") if is_below else (first.path, "")
    return failed(
        check_id,
        str(first.path),
        f"others than root can change {first.path} ({what}{more}), which the system's units start",
        f"chown {all_below}root:root {place} && chmod {all_below}go-w {place}",
    )
