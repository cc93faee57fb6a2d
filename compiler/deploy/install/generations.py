"""Add, switch and drop the numbered generations of a deployment, each step whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from compiler.deploy.installation import Deployment, Refused, read_plan
from compiler.diff.restarts import Bundle
from compiler.emit.artifact import Artifact
from compiler.write import NotWritten, changed_files, write, written_files

KEPT = 5
"""Generations that stay for `dync rollback`, besides those that still run."""


@contextmanager
def locked(deployment: Deployment) -> Iterator[None]:
    """Hold a deployment's folder, so that two commands never change it at once.

    Errors: Refused where another command holds it, or it cannot be made.
    """
    try:
        deployment.home.mkdir(parents=True, exist_ok=True)
        handle = os.open(deployment.home, os.O_RDONLY)
    except OSError as error:
        raise Refused(f"cannot write {deployment.home}: {error.strerror}") from error
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Refused(f"another dync works on {deployment.home}: wait for it") from None
    try:
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            deployment.home.rmdir()  # only an empty one: nothing came of it


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle as texts: what dync wrote into it.

    Errors: Refused where it cannot be read.
    """
    plan = read_plan(folder)
    try:
        texts = {path: (folder / path).read_text("utf-8") for path in written_files(folder)}
    except (NotWritten, OSError, ValueError) as error:
        raise Refused(f"cannot read {folder}: {error}; make it again with dync build") from error
    return Bundle(plan=plan, texts=texts)


def refuse_changed(folder: Path, hint: str) -> None:
    """Refuse a bundle or generation that somebody edited.

    Errors: Refused.
    """
    try:
        changed = changed_files(folder)
    except NotWritten as error:
        raise Refused(f"{error}; {hint}") from error
    if changed:
        shown = ", ".join(changed[:5]) + (", …" if len(changed) > 5 else "")
        raise Refused(f"{folder} was changed since dync wrote it ({shown}): {hint}")


def add(deployment: Deployment, source: Path) -> int:
    """Copy a bundle into a new generation; give its number, or that of the equal current one.

    Errors: Refused where the disk does; nothing is left then.
    """
    bundle, current = read_bundle(source), deployment.current
    if current is not None and _equals(deployment.folder(current), bundle):
        return current
    number = max((*deployment.numbers, 0)) + 1
    artifacts = [
        Artifact(path=path, text=text, executable=os.access(source / path, os.X_OK))
        for path, text in bundle.texts.items()
    ]
    folder = deployment.folder(number)
    try:
        write(artifacts, folder)
        # What processes share below run/ is theirs to write, and outlives a generation.
        (folder / "run").symlink_to(deployment.host.state / deployment.name / "run")
    except (NotWritten, OSError) as error:
        drop(deployment, number)
        with suppress(OSError):
            folder.parent.rmdir()
        said = error if isinstance(error, NotWritten) else f"cannot write {folder}/run: {error}"
        raise Refused(str(said)) from error
    return number


def switch(deployment: Deployment, number: int) -> None:
    """Make a generation the current one, by one rename; note which one was before."""
    old = deployment.current
    if old is not None and old != number:
        _point(deployment.home / "previous", old)
    _point(deployment.link, number)
    sync(deployment.home)


def _point(link: Path, number: int) -> None:
    fresh = link.with_name(f".{link.name}.dync-new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    os.symlink(f"generations/{number}", fresh)
    os.replace(fresh, link)


def drop(deployment: Deployment, number: int) -> None:
    """Remove a generation; a part of one that cannot be removed is none."""
    shutil.rmtree(deployment.folder(number), ignore_errors=True)
    with suppress(OSError):
        deployment.proof(number).unlink()


def prune(deployment: Deployment, running: set[int]) -> None:
    """Remove generations beyond the newest few, but none that still runs."""
    kept = {*deployment.numbers[-KEPT:], *running, deployment.current, deployment.previous}
    for number in deployment.numbers:
        if number not in kept:
            drop(deployment, number)


def running_generation(deployment: Deployment, pid: int) -> int | None:
    """Tell which generation a process was started from: the one it works in.

    Folders are compared as files: a sandboxed process may see another path to the same one.
    """
    try:
        folder = os.stat(f"/proc/{pid}/cwd")
    except OSError:
        return None
    for number in deployment.numbers:
        with suppress(OSError):
            if os.path.samestat(folder, os.stat(deployment.folder(number))):
                return number
    return None


def sync(folder: Path) -> None:
    """Bring a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _equals(folder: Path, bundle: Bundle) -> bool:
    try:
        return not changed_files(folder) and read_bundle(folder).texts == bundle.texts
    except (NotWritten, Refused):
        return False
