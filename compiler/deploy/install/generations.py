"""Add, switch and drop the numbered generations of a deployment, each step whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from compiler.bundle_paths import PLAN, RUN_FOLDER
from compiler.deploy.installation import Installation, read_plan
from compiler.diff.restarts import Bundle
from compiler.emit.artifact import Artifact
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.write.atomic import put_link, sync_folder
from compiler.write.bundle import changed_files, present_files, write
from compiler.write.manifest import MANIFEST, NotWritten, ReadFile, read_files
from compiler.write.plan_reader import plan_from_json
from compiler.write.trees import remove

KEPT = 5
"""Generations that stay for `dync rollback`, besides those that still run."""


@contextmanager
def locked(installation: Installation) -> Iterator[None]:
    """Hold a deployment's folder, so that two commands never change it at once.

    Errors: HostError where another command holds it, or it cannot be made.
    """
    try:
        installation.home.mkdir(parents=True, exist_ok=True)
        handle = os.open(installation.home, os.O_RDONLY)
    except OSError as error:
        raise HostError(f"cannot write {installation.home}: {error.strerror}") from error
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise HostError(f"another dync works on {installation.home}: wait for it") from None
    try:
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            installation.home.rmdir()  # only an empty one: nothing came of it


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBundle:
    """A bundle that was read once: what is looked at, and then put in place.

    changed: what is not as dync wrote it, or was not written by it.
    """

    folder: Path
    plan: Plan
    files: Mapping[str, ReadFile]
    changed: tuple[str, ...]

    @property
    def bundle(self) -> Bundle:
        """Return it as texts."""
        return Bundle(plan=self.plan, texts={p: f.content.decode() for p, f in self.files.items()})


def read_source(folder: Path) -> ReadBundle:
    """Read what dync wrote into a bundle, each file once and no link followed.

    Errors: HostError where it cannot be read.
    """
    try:
        read = read_files(folder)
        for path, why in read.unread.items():
            raise NotWritten(f"{path}: {why}")
        present = set(present_files(folder)) - {MANIFEST}
        texts = {path: file.content.decode() for path, file in read.files.items()}
        plan = plan_from_json(texts.get(PLAN, ""))
    except (NotWritten, OSError, ValueError) as error:
        read_plan(folder)  # says best what is no bundle at all
        raise HostError(f"cannot read {folder}: {error}; make it again with dync build") from error
    written = {path for path, file in read.files.items() if file.is_as_written}
    changed = tuple(sorted((present | read.files.keys()) - written))
    return ReadBundle(folder=folder, plan=plan, files=read.files, changed=changed)


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle as texts: what dync wrote into it.

    Errors: HostError where it cannot be read.
    """
    return read_source(folder).bundle


def refuse_changed(folder: Path, changed: Sequence[str], hint: str) -> None:
    """Refuse a bundle or generation that somebody edited.

    Errors: HostError.
    """
    if changed:
        shown = ", ".join(changed[:5]) + (", …" if len(changed) > 5 else "")
        raise HostError(f"{folder} was changed since dync wrote it ({shown}): {hint}")


def refuse_changed_generation(folder: Path, hint: str) -> None:
    """Refuse a generation that somebody edited, also one of another release.

    Errors: HostError.
    """
    try:
        changed = changed_files(folder)
    except NotWritten as error:
        raise HostError(f"{error}; {hint}") from error
    refuse_changed(folder, changed, hint)


def add(installation: Installation, source: ReadBundle) -> int:
    """Write a bundle into a new generation; return its number, or that of the equal current one.

    Errors: HostError where the disk does; nothing is left then.
    """
    current = installation.current
    if current is not None and _equals(installation.folder(current), source):
        return current
    number = max((*installation.numbers, 0)) + 1
    artifacts = [
        Artifact(path=path, text=file.content.decode(), executable=bool(file.mode & 0o100))
        for path, file in source.files.items()
    ]
    folder = installation.folder(number)
    try:
        write(artifacts, folder)
        # What processes share below run/ is theirs to write, and outlives a generation.
        state = installation.host.state / installation.name / RUN_FOLDER
        (folder / RUN_FOLDER).symlink_to(state)
    except (NotWritten, OSError) as error:
        drop(installation, number)
        with suppress(OSError):
            folder.parent.rmdir()
        said = error if isinstance(error, NotWritten) else f"cannot write {folder}/run: {error}"
        raise HostError(str(said)) from error
    return number


def switch(installation: Installation, number: int) -> None:
    """Make a generation the current one, by one rename; note which one was before."""
    old = installation.current
    if old is not None and old != number:
        put_link(installation.home / "previous", f"generations/{old}")
    put_link(installation.link, f"generations/{number}")
    sync_folder(installation.home)


def drop(installation: Installation, number: int) -> None:
    """Remove a generation; a part of one that cannot be removed is none."""
    remove(installation.folder(number))
    with suppress(OSError):
        installation.proof(number).unlink()


def prune(installation: Installation, running: set[int]) -> None:
    """Remove generations beyond the newest few, but none that still runs."""
    kept = {*installation.numbers[-KEPT:], *running, installation.current, installation.previous}
    for number in installation.numbers:
        if number not in kept:
            drop(installation, number)


def running_generation(installation: Installation, pid: int) -> int | None:
    """Return which generation a process was started from: the one it works in.

    Folders are compared as files: a sandboxed process may see another path to the same one.
    """
    try:
        folder = os.stat(f"/proc/{pid}/cwd")
    except OSError:
        return None
    for number in installation.numbers:
        with suppress(OSError):
            if os.path.samestat(folder, os.stat(installation.folder(number))):
                return number
    return None


def _equals(folder: Path, source: ReadBundle) -> bool:
    try:
        there = read_source(folder)
    except HostError:
        return False
    return not there.changed and there.bundle.texts == source.bundle.texts
