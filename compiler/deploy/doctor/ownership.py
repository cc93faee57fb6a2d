"""Who else may change what is started: a stack or bundle must be root's, or of whoever starts it.

Each folder on the way to a file is looked at, with links followed: whoever may write one can put
another file in the place of what it holds. In a folder that all may write and whose mode is sticky
(/tmp) nobody can replace what is there and root's, so one on the way is no fault; one that is
looked into is, as a program can be added there.

Root trusts nobody but itself. Another account trusts root too, and a group of which it is the only
member.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from compiler.bundle_paths import PLAN, STATE_FOLDERS
from compiler.deploy.accounts import owner_name
from compiler.deploy.deployment import Deployment
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, Verdict, failed, passed
from compiler.deploy.rooted import links_on_the_way, on_the_way
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.write.manifest import NotWritten, read_files

_ROOT = 0


class Owned(NamedTuple):
    """A file or folder, whose it is, and who may write it."""

    path: Path
    owner: int
    group: int
    mode: int


def check(subject: Subject) -> Iterator[Finding]:
    """Look at the stack's programs and packages, and at the bundle's files.

    What an ordinary account launches by hand is its own choice.
    """
    if not subject.is_by_root and not subject.is_under_systemd:
        return
    stack, bundle = others_of_stack(subject), others_of_bundle(subject)
    if stack:
        yield _finding(subject, "stack", stack, subject.host.at(subject.stack_folder))
    if bundle:
        yield _finding(subject, "bundle", bundle, subject.folder)
    if not stack and not bundle:
        who = "nobody but root" if subject.is_by_root else "nobody but root and you"
        yield passed("ownership", str(subject.stack_folder), f"{who} can change it")


def refuse_others_launch(plan: Plan, folder: Path) -> None:
    """Refuse that root launches a bundle or a stack which others can change.

    Errors: HostError.
    """
    found = check(Subject(plan=plan, stack=None, folder=folder))
    lines = [item.line for item in found if item.verdict is Verdict.FAIL]
    if lines:
        raise HostError("\n  ".join((f"root does not launch {folder}:", *lines)))


def refuse_others_bundle(deployment: Deployment) -> None:
    """Refuse to ask a deployment whose bundle others can change: its plan says what is told whom.

    What is installed is looked at when it is put in place.
    Errors: HostError.
    """
    if deployment.installation is not None:
        return
    subject = Subject(plan=deployment.plan, stack=None, folder=deployment.folder)
    found = others_of_bundle(subject)
    if found:
        line = _finding(subject, "bundle", found, subject.folder).line
        raise HostError(f"{deployment.folder} is not believed:\n  {line}")


def trusted_owners(subject: Subject) -> frozenset[int]:
    """Return whose files are no fault: root's, and the caller's unless root acts on this host."""
    is_roots = subject.is_by_root and subject.host.is_here
    return frozenset((_ROOT,) if is_roots else (_ROOT, os.geteuid()))


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
            item = _owned(place, status)
            if _is_others(subject, item, trusted, is_on_the_way=is_on_the_way):
                found.append(item)
        for item in _links_of_others(subject.host.root, path, trusted):
            if (item.path, True) not in seen:
                seen.add((item.path, True))
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


def others_of_bundle(subject: Subject) -> list[Owned]:
    """List what others may change of a bundle; where it stays, also what is on the way to it."""
    trusted = trusted_owners(subject)
    stays = subject.is_by_root and not subject.is_under_systemd
    way = _way(subject) if stays else ()
    above = [item for item in way if _is_others(subject, item, trusted, is_on_the_way=True)]
    if stays:
        above += _links_of_others(Path("/"), subject.folder.absolute(), trusted)
    return above + [item for item in _bundle(subject) if _is_others(subject, item, trusted)]


def _links_of_others(root: Path, path: Path, trusted: frozenset[int]) -> list[Owned]:
    """List the links on the way that somebody else may lead elsewhere."""
    try:
        links = list(links_on_the_way(root, path))
    except OSError:
        return []
    return [_owned(place, status) for place, status in links if status.st_uid not in trusted]


def _way(subject: Subject) -> Iterator[Owned]:
    """List the folders on the way to a bundle, if one is there."""
    if os.path.lexists(subject.folder / PLAN):
        for place, status in [*on_the_way(Path("/"), subject.folder.absolute())][:-1]:
            yield _owned(place, status)


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
    if not subject.is_under_systemd:  # it writes there what it runs by
        folders |= {Path(name) for name in STATE_FOLDERS if os.path.exists(folder / name)}
    for below in sorted(folders):
        yield _owned(folder / below, os.stat(folder / below))
    for path, file in files.items():
        yield Owned(folder / path, file.owner, file.group, file.mode)


def _owned(path: Path, status: os.stat_result) -> Owned:
    return Owned(path, status.st_uid, status.st_gid, status.st_mode)


def _is_others(
    subject: Subject, item: Owned, trusted: Collection[int], *, is_on_the_way: bool = False
) -> bool:
    if item.owner not in trusted:
        return True
    if is_on_the_way and item.mode & stat.S_ISVTX and item.owner == _ROOT:
        return False
    is_own = not subject.is_by_root and _members(item.group) <= frozenset(trusted)
    return bool(item.mode & stat.S_IWOTH or (item.mode & stat.S_IWGRP and not is_own))


@lru_cache(maxsize=64)
def _members(group: int) -> frozenset[int]:
    """Return the accounts of a group: those whose own it is, and those that it lists."""
    entries = pwd.getpwall()
    try:
        listed = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        listed = set()
    uids = {item.pw_uid for item in entries if item.pw_gid == group or item.pw_name in listed}
    return frozenset(uids)


def _finding(subject: Subject, check_id: str, found: list[Owned], whole: Path) -> Finding:
    first = found[0]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    what = f"owner {owner_name(first.owner)}, mode {stat.S_IMODE(first.mode):04o}"
    is_below = whole in (first.path, *first.path.parents)
    place, all_below = (whole, "-R ") if is_below else (first.path, "")
    who, why = _words(subject)
    owner = "root:root" if subject.is_by_root else owner_name(os.geteuid())
    fix = f"chown {all_below}{owner} {place} && chmod {all_below}go-w {place}"
    if not subject.is_under_systemd and first.owner not in trusted_owners(subject):
        fix = f"run this as {owner_name(first.owner)}, or make it again where nobody else writes"
    return failed(
        check_id,
        str(first.path),
        f"others than {who} can change {first.path} ({what}{more}), {why}",
        fix,
    )


def _words(subject: Subject) -> tuple[str, str]:
    """Return who alone may change something, and why."""
    if subject.is_by_root and subject.is_under_systemd:
        return "root", "which the system's units start"
    if subject.is_by_root:
        return "root", "by which root starts and asks processes"
    if subject.is_under_systemd:
        return "root and you", "which your units start"
    return "root and you", "which says what of yours is told whom"
