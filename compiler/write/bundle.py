"""Put a bundle in place: whole or not at all, and only over a bundle that dync wrote."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NoReturn

from compiler.bundle_paths import STATE_FOLDERS
from compiler.emit.artifact import Artifact
from compiler.write.atomic import sync_folder
from compiler.write.manifest import (
    MANIFEST,
    NotWritten,
    digest,
    files_in,
    first_of,
    manifest_of,
    written_files,
)
from compiler.write.safe_read import opened, read_below
from compiler.write.state import NotKept, carry_state, mounted_state
from compiler.write.strict_json import MOST_BYTES, NotStrict
from compiler.write.trees import remove, walk

BYTECODE = "__pycache__"
"""What Python keeps beside modules of lib/ that an engine has loaded; the next build drops it."""

_THREADS = 16
"""Each waits for the disk most of the time."""
_BATCH = 1024
"""So many files are held in memory at once."""
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def write(artifacts: Iterable[Artifact], out_dir: Path, *, overwrite: bool = False) -> bool:
    """Write a bundle beside its place, then swap it in; False if it stood there already.

    The folder at out_dir is the old bundle or the new one at every moment, also for a build that
    is killed (not where its logs or run folder is a mount: files change places one by one there).
    `overwrite` also replaces a bundle that was changed by hand. The artifacts are gone through
    twice where a bundle stands there, and need never be held all at once.
    Errors: NotWritten where out_dir is not a bundle of dync's, or the disk refuses.
    """
    place = Path(os.path.realpath(out_dir))
    _sweep(place)
    if _stands(place, artifacts, overwrite=overwrite):
        return False
    fresh: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{place.name}.dync-", dir=place.parent))
        handle = os.open(fresh, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            _fill(fresh, artifacts)
            if mounted_state(place):
                _swap_entries(fresh, place)
            else:
                carry_state(place, fresh)
                _swap(fresh, place)
        finally:
            os.close(handle)
        sync_folder(place.parent)
    except NotKept as refusal:
        raise NotWritten(str(refusal)) from refusal
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotWritten(f"cannot write {place}: {reason}; nothing was changed") from error
    finally:
        if fresh is not None:
            remove(fresh)
    return True


def changed_files(place: Path) -> list[str]:
    """List the files of a bundle that are not, or no longer, as dync wrote them.

    Errors: NotWritten where the folder was not written by dync.
    """
    digests = written_files(place)
    try:
        changed = set(_changed(place, digests))
    except OSError as error:
        raise NotWritten(f"cannot read {error.filename or place}: {error.strerror}") from error
    return sorted(changed | {path for path in digests if not (place / path).is_file()})


def _stands(place: Path, artifacts: Iterable[Artifact], *, overwrite: bool) -> bool:
    """Return whether this very bundle stands there; refuse what must not be replaced."""
    if not place.is_dir():
        if place.exists():
            raise NotWritten(f"{place} is not a folder: name another place with -o")
        return False
    try:
        if not any(place.iterdir()):
            return False
        with opened(place) as folder:
            old = read_below(folder, MANIFEST, MOST_BYTES).content
        digests = files_in(old)
        changed = _changed(place, digests)
    except FileNotFoundError:
        raise NotWritten(
            f"{place} was not written by dync: name another place with -o, or remove it"
        ) from None
    except OSError as error:
        where = (
            error.filename if error.filename and error.filename != MANIFEST else place / MANIFEST
        )
        raise NotWritten(f"cannot read {where}: {error.strerror}") from error
    except NotStrict as error:
        raise NotWritten(
            f"{place / MANIFEST} is none that dync wrote: {error}; name another place with -o, or "
            "remove it"
        ) from error
    if changed and not overwrite:
        raise NotWritten(
            f"{place} was changed since dync wrote it ({first_of(changed)}): move those files "
            "away, name another place with -o, or give --overwrite to lose them"
        )
    return (
        not changed
        and old == manifest_of(digests).encode()
        and all((place / path).is_file() for path in digests)
        and _are_those(artifacts, digests)
    )


def _are_those(artifacts: Iterable[Artifact], digests: Mapping[str, str]) -> bool:
    """Return whether these very files were written; the first that differs ends the look."""
    paths = set()
    for artifact in artifacts:
        if digests.get(artifact.path) != digest(artifact.text.encode()):
            return False
        paths.add(artifact.path)
    return len(paths) == len(digests)


def present_files(place: Path) -> Iterator[str]:
    """List what lies in a bundle, but for what it writes itself while it runs."""
    for folder, names, files in walk(str(place), _refuse):
        relative = Path(folder).relative_to(place)
        names[:] = [name for name in names if name != BYTECODE]
        if relative == Path("."):
            for listed in (names, files):  # a link to nothing is listed as a file
                listed[:] = [name for name in listed if name not in STATE_FOLDERS]
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        for name in (*files, *links):
            yield str(relative / name)


def _refuse(error: OSError) -> NoReturn:
    raise error


def _changed(place: Path, digests: Mapping[str, str]) -> list[str]:
    """List what lies in a bundle and is not as it was written, a link and a pipe among it."""
    with opened(place) as folder:
        return [path for path in present_files(place) if not _is_as_written(folder, path, digests)]


def _is_as_written(folder: int, path: str, digests: Mapping[str, str]) -> bool:
    if path == MANIFEST:
        return True
    try:
        return path in digests and digest(read_below(folder, path).content) == digests[path]
    except OSError:
        return False


def _fill(folder: Path, artifacts: Iterable[Artifact]) -> None:
    """Write files as they come, a batch at a time, and what dync wrote at the end."""
    digests: dict[str, str] = {}
    folders = {folder}
    left = iter(artifacts)
    os.chmod(folder, 0o755)
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        while batch := list(islice(left, _BATCH)):
            digests.update((item.path, digest(item.text.encode())) for item in batch)
            _write(pool, folder, batch, folders)
        _write(pool, folder, [Artifact(path=MANIFEST, text=manifest_of(digests))], folders)
        list(pool.map(sync_folder, sorted(folders)))


def _write(
    pool: ThreadPoolExecutor, folder: Path, batch: list[Artifact], folders: set[Path]
) -> None:
    holding = {os.path.dirname(artifact.path) for artifact in batch}
    below = {folder / step for name in holding for step in (Path(name), *Path(name).parents)}
    for made in sorted(below - folders):
        made.mkdir()
        os.chmod(made, 0o755)
    folders |= below
    shares = (batch[number::_THREADS] for number in range(_THREADS))
    list(pool.map(partial(_put, folder), shares))


def _put(folder: Path, artifacts: list[Artifact]) -> None:
    for artifact in artifacts:
        with open(f"{folder}/{artifact.path}", "xb", buffering=0) as file:
            left = memoryview(artifact.text.encode())
            while left:
                left = left[file.write(left) :]
            os.fchmod(file.fileno(), 0o755 if artifact.executable else 0o644)
            os.fsync(file.fileno())


def _swap(fresh: Path, place: Path) -> None:
    """Put the new folder in the old one's place; the old one ends where the new one was."""
    if not os.path.lexists(place):
        os.rename(fresh, place)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    exchange = getattr(libc, "renameat2", None)
    names = (os.fsencode(fresh), os.fsencode(place))
    if exchange is not None:
        if exchange(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(code, os.strerror(code))
    # A file system without exchange (NFS): the place is empty for the moment between two renames.
    aside = fresh.with_name(fresh.name + "-old")
    os.rename(place, aside)
    try:
        os.rename(fresh, place)
    except OSError:
        os.rename(aside, place)
        raise
    remove(aside)


def _swap_entries(fresh: Path, place: Path) -> None:
    """Put each file and folder in its place, where the bundle's folder cannot go: logs are mounted.

    The list of files comes last: one that is cut off in between says so at the next build.
    """
    names = {*os.listdir(fresh), *os.listdir(place)} - {*STATE_FOLDERS, MANIFEST}
    for name in (*sorted(names), MANIFEST):
        new, old = fresh / name, place / name
        if os.path.lexists(new):
            _swap(new, old)
        else:
            os.rename(old, new)
    sync_folder(place)


def _sweep(place: Path) -> None:
    """Remove what killed builds left beside the bundle, unless a build still holds it.

    A bundle that was set aside and never replaced comes back first; what another account put there
    is neither believed nor touched.
    """
    for left in place.parent.glob(f".{glob.escape(place.name)}.dync-*"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if not _is_own(handle):
                    continue
                if left.name.endswith("-old") and not place.exists():
                    os.rename(left, place)
                    continue
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(left)
            finally:
                os.close(handle)


def _is_own(folder: int) -> bool:
    """Return whether a folder is this account's, and no other can have put anything into it."""
    status = os.fstat(folder)
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
