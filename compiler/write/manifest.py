"""Say which files a bundle has and what each holds, and read that back, believing no name of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from compiler import __version__
from compiler.bundle_paths import STATE_FOLDERS
from compiler.write.safe_read import opened, read_below
from compiler.write.strict_json import MOST_BYTES, NotStrict, read_json, refuse_odd_values, shown

MANIFEST = ".dync.json"
_FORMAT = 1
_MOST_FILES = 500_000
_MOST_BYTES = 1_000_000_000
_SHOWN = 5
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_VERSION = re.compile(r"[0-9A-Za-z.+!_-]{1,64}\Z")
_STEP = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.@+-]{1,200}\Z")


class NotWritten(Exception):
    """A bundle that cannot be put in place, or was not; its text says why and what to do."""


def first_of(paths: Collection[str]) -> str:
    """Return the first paths of some in words."""
    return ", ".join(sorted(paths)[:_SHOWN]) + (", …" if len(paths) > _SHOWN else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a manifest says: the digest of each file, and which version of dync wrote it, if any."""

    files: dict[str, str]
    made_by: str


def manifest_of(digests: Mapping[str, str]) -> str:
    """Return the manifest of a bundle whose files have these hashes."""
    files = dict(sorted(digests.items()))
    return json.dumps({"format": _FORMAT, "dync": __version__, "files": files}, indent=1) + "\n"


def digest(content: bytes) -> str:
    """Return what stands for a file's content."""
    return hashlib.sha256(content).hexdigest()


def written_files(place: Path) -> dict[str, str]:
    """Return the files of a bundle and their hashes, as dync wrote them.

    Errors: NotWritten where the folder was not written by dync.
    """
    return _written(place).files


def _written(place: Path) -> Written:
    try:
        with opened(place) as folder:
            return _manifest(read_below(folder, MANIFEST, MOST_BYTES).content)
    except FileNotFoundError:
        raise NotWritten(f"{place} was not written by dync") from None
    except OSError as error:
        raise NotWritten(f"cannot read {place / MANIFEST}: {error.strerror}") from error
    except NotStrict as error:
        raise NotWritten(f"{place / MANIFEST} is none that dync wrote: {error}") from error


def files_in(manifest: bytes) -> dict[str, str]:
    """Read a manifest: paths below the bundle alone, each with a digest.

    Errors: NotStrict.
    """
    return _manifest(manifest).files


def _manifest(manifest: bytes) -> Written:
    data = read_json(manifest)
    refuse_odd_values(data)
    if not isinstance(data, dict) or data.keys() - {"dync"} != {"format", "files"}:
        raise NotStrict('expected {"format": …, "dync": …, "files": …}')
    files, made_by = data["files"], data.get("dync", "")
    if data["format"] != _FORMAT:
        raise NotStrict(f"its format is {shown(data['format'])}, not {_FORMAT}")
    if "dync" in data and (not isinstance(made_by, str) or not _VERSION.match(made_by)):
        raise NotStrict(f"dync: {shown(made_by)} is no version")
    if not isinstance(files, dict) or len(files) > _MOST_FILES:
        raise NotStrict(f"files: {shown(files)}, expected at most {_MOST_FILES} by their paths")
    folders = {path[:at] for path in files for at, char in enumerate(path) if char == "/"}
    for path, found in files.items():
        steps = path.split("/")
        if not all(map(_STEP.match, steps)) or steps[0] in STATE_FOLDERS or path == MANIFEST:
            raise NotStrict(f"files: {shown(path)} is no path of a file in a bundle")
        if path in folders:
            raise NotStrict(f"files: {shown(path)} is a file and a folder")
        if not isinstance(found, str) or not _DIGEST.match(found):
            raise NotStrict(f"files: {shown(path)}: {shown(found)} is no SHA-256 digest")
    return Written(files=files, made_by=made_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """One file as it was read: its bytes, whether they are what dync wrote, whose it is."""

    content: bytes
    is_as_written: bool
    mode: int
    owner: int
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFolder:
    """The files of a bundle, why each of the others could not be read, and who wrote it."""

    files: Mapping[str, ReadFile]
    unread: Mapping[str, str]
    made_by: str


def read_files(place: Path) -> ReadFolder:
    """Read every file of a bundle once: what is checked is what is used afterwards.

    Errors: NotWritten where the folder was not written by dync.
    """
    written, left = _written(place), _MOST_BYTES
    files: dict[str, ReadFile] = {}
    unread: dict[str, str] = {}
    try:
        with opened(place) as folder:
            for path, wanted in written.files.items():
                try:
                    read = read_below(folder, path)
                except OSError as error:
                    unread[path] = error.strerror or str(error)
                    continue
                left -= len(read.content)
                if left < 0:
                    raise NotWritten(f"{place} has more than {_MOST_BYTES} bytes")
                files[path] = ReadFile(
                    content=read.content,
                    is_as_written=digest(read.content) == wanted,
                    mode=read.status.st_mode,
                    owner=read.status.st_uid,
                    group=read.status.st_gid,
                )
    except OSError as error:
        raise NotWritten(f"cannot read {place}: {error.strerror}") from error
    return ReadFolder(files=files, unread=unread, made_by=written.made_by)
