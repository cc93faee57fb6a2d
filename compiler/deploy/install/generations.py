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
from compiler.write.atomic import UNFINISHED, put_link, sync_folder
from compiler.write.bundle import changed_files, present_files, write
from compiler.write.manifest import (
    MANIFEST,
    NotWritten,
    ReadFile,
    first_of,
    read_files,
    written_files,
)
from compiler.write.plan_reader import plan_from_json
from compiler.write.safe_read import opened, read_below
from compiler.write.trees import remove

KEPT = 5
"""Generations that stay for `dync rollback`, besides those that still run."""


@contextmanager
def locked(installation: Installation) -> Iterator[None]:
    """Hold a deployment's folder, so that two commands never change it at once.

    What a killed command left half-written there is removed first.
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
        _sweep(installation)
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            installation.home.rmdir()  # only an empty one: nothing came of it


def _sweep(installation: Installation) -> None:
    generations, _ = installation.folders
    for left in generations.glob(".*.dync-*"):
        remove(left)
    for left in installation.home.glob(f".*{UNFINISHED}"):
        left.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBundle:
    """A bundle that was read once: what is looked at, and then put in place.

    changed: what is not as its list of files says, or not in it. made_by: the version of dync that
    it says it was made by; empty where it does not say.
    """

    folder: Path
    plan: Plan
    files: Mapping[str, ReadFile]
    changed: tuple[str, ...]
    made_by: str

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
        raise _unreadable(folder, error) from error
    written = {path for path, file in read.files.items() if file.is_as_written}
    changed = tuple(sorted((present | read.files.keys()) - written))
    return ReadBundle(
        folder=folder, plan=plan, files=read.files, changed=changed, made_by=read.made_by
    )


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle as texts: what dync wrote into it, each when it is asked for.

    Errors: HostError where it cannot be read, or is asked for a text that cannot be.
    """
    plan = read_plan(folder)
    try:
        return Bundle(plan=plan, texts=_FolderTexts(folder, tuple(written_files(folder))))
    except NotWritten as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> HostError:
    return HostError(f"cannot read {folder}: {error}; make it again with dync build")


class _FolderTexts(Mapping[str, str]):
    """The texts of a bundle's files by their paths: those of thousands of workers never at once.

    No link is followed. What was changed by hand is returned as it is: nothing is put in place of
    it, and a comparison is to show it.
    """

    def __init__(self, folder: Path, paths: tuple[str, ...]) -> None:
        self._folder = folder
        self._paths = dict.fromkeys(paths)

    def __getitem__(self, path: str) -> str:
        if path not in self._paths:
            raise KeyError(path)
        try:
            with opened(self._folder) as folder:
                return read_below(folder, path).content.decode()
        except OSError as error:
            reason = f"{path}: {error.strerror or error}"
            raise _unreadable(self._folder, NotWritten(reason)) from error
        except ValueError as error:
            raise _unreadable(self._folder, error) from error

    def __contains__(self, path: object) -> bool:
        return path in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def refuse_changed_generation(folder: Path, hint: str) -> None:
    """Refuse a generation that somebody edited, also one of another release.

    Errors: HostError.
    """
    try:
        changed = changed_files(folder)
    except NotWritten as error:
        raise HostError(f"{error}; {hint}") from error
    if changed:
        raise HostError(f"{folder} was changed since dync wrote it ({first_of(changed)}): {hint}")


def add(installation: Installation, artifacts: Sequence[Artifact]) -> int:
    """Write a new generation; return its number, or that of the current one if that is equal.

    Errors: HostError where the disk does; nothing is left then.
    """
    current = installation.current
    if current is not None and _equals(installation.folder(current), artifacts):
        return current
    number = max((*installation.numbers, 0)) + 1
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


def _equals(folder: Path, artifacts: Sequence[Artifact]) -> bool:
    try:
        there = read_source(folder)
    except HostError:
        return False
    return not there.changed and there.bundle.texts == {item.path: item.text for item in artifacts}
