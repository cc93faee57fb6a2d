"""Compress what travels in streams that unpack side by side, and cut them into parts.

A stack's streams follow each other, the first stack's first, so that the first parts hold a
whole stack. Compressed streams stay in WORK under their contents' sums: what has not changed
is not compressed again.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.gpu.packing.own_torch import is_elf
from benchmarks.gpu.packing.shared import Assembled, changes

CHUNK = 4 << 20
ALONE = 96 << 20  # a library of this size is a stream of its own
TOGETHER = 192 << 20  # smaller ones share streams of this size
MTIME = 315532800  # 1980, the same for every file: packs of the same files are the same
DICTIONARY = 64 << 20
X86 = {"id": lzma.FILTER_X86}  # calls become absolute, which repeat where relative ones do not


@dataclass(frozen=True, slots=True)
class Content:
    """What a stream is to hold: one file, a tar, or what changed in files of its owner.

    theirs: where the owner's files are.
    """

    stack: str
    name: str
    site: Path
    files: tuple[str, ...]
    kind: str
    owner: str = ""
    theirs: Path = Path()
    is_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A compressed stream and the sum and size of what it unpacks to."""

    content: Content
    packed: Path
    sha256: str
    unpacked: int


class Sink(Protocol):
    """What takes a stream's bytes."""

    def write(self, data: bytes, /) -> object:
        """Take some."""


class Summed:
    """Gives the sum and size of what is written to it."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Count some."""
        self.hash.update(data)
        self.size += len(data)
        return len(data)


class Packed:
    """Compresses what is written to it."""

    def __init__(self, target: io.BufferedWriter, size: int, *, is_code: bool) -> None:
        dictionary = min(DICTIONARY, max(size, 4096))
        lzma2 = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}
        filters = [X86, lzma2] if is_code else [lzma2]
        self.target = target
        self.packer = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=filters)

    def write(self, data: bytes) -> int:
        """Compress some."""
        self.target.write(self.packer.compress(data))
        return len(data)

    def close(self) -> None:
        """Write the end."""
        self.target.write(self.packer.flush())


def contents(stack: Assembled, earlier: Sequence[Assembled]) -> Iterator[Content]:
    """Deal a stack's files out to streams; each takes one core to unpack."""
    large: list[str] = []
    small: list[str] = []
    others: list[str] = []
    for name in stack.files:
        path = stack.site / name
        kind = others if not is_elf(path) else large if path.stat().st_size >= ALONE else small
        kind.append(name)
    for name in large:
        yield Content(stack.stack, name, stack.site, (name,), "file", is_code=True)
    for number, names in enumerate(_shares(stack.site, small)):
        name = f"libraries-{number}"
        yield Content(stack.stack, name, stack.site, names, "tar", is_code=True)
    if others:
        yield Content(stack.stack, "others", stack.site, tuple(others), "tar")
    for one in earlier:
        if one.stack in stack.shared:
            name, names = f"shared-with-{one.stack}", stack.shared[one.stack]
            yield Content(stack.stack, name, stack.site, names, "shared", one.stack, one.site)


def compress(wanted: Sequence[Content], folder: Path) -> list[Stream]:
    """Return the streams, in the order of what is wanted; two are compressed at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    largest_first = sorted(wanted, key=_size, reverse=True)
    with ThreadPoolExecutor(2) as pool:
        packed = pool.map(lambda content: _compress(content, folder), largest_first)
        done = dict(zip(largest_first, packed, strict=True))
    return [done[content] for content in wanted]


def cut(streams: Sequence[Stream], parts: Path, part_bytes: int) -> list[dict[str, object]]:
    """Write the streams, laid end to end, in parts; return what the manifest says of each."""
    parts.mkdir(parents=True, exist_ok=True)
    for old in parts.glob("part.*"):
        old.unlink()
    said: list[dict[str, object]] = []
    part = b""
    for data in _joined(streams):
        part += data
        while len(part) > part_bytes:
            said.append(_write_part(parts, len(said), part[:part_bytes]))
            part = part[part_bytes:]
    if part:
        said.append(_write_part(parts, len(said), part))
    return said


def described(streams: Sequence[Stream]) -> list[dict[str, object]]:
    """Return what the manifest says of the streams, and where each begins."""
    said: list[dict[str, object]] = []
    start = 0
    for stream in streams:
        content, size = stream.content, stream.packed.stat().st_size
        known = {key: asdict(content)[key] for key in ("stack", "name", "kind", "owner")}
        file = {"file": content.files[0], "shared": f"../{content.name}"}.get(content.kind, "")
        sums = {"sha256": stream.sha256, "unpacked": stream.unpacked}
        said.append({**known, "file": file, "start": start, "size": size, **sums})
        start += size
    return said


def _shares(site: Path, names: list[str]) -> Iterator[tuple[str, ...]]:
    share: list[str] = []
    size = 0
    for name in names:
        share.append(name)
        size += (site / name).stat().st_size
        if size >= TOGETHER:
            yield tuple(share)
            share, size = [], 0
    if share:
        yield tuple(share)


def _size(content: Content) -> int:
    return sum((content.site / name).stat().st_size for name in content.files if not content.owner)


def _compress(content: Content, folder: Path) -> Stream:
    summed = Summed()
    _write(content, summed)
    sha256 = summed.hash.hexdigest()
    packed = folder / f"{sha256}.xz"
    if not packed.exists():
        unfinished = folder / f"{sha256}.unfinished"
        with unfinished.open("wb") as target:
            packer = Packed(target, summed.size, is_code=content.is_code)
            _write(content, packer)
            packer.close()
        unfinished.rename(packed)
    size = packed.stat().st_size
    print(f"{content.stack} {content.name}: {summed.size} bytes, {size} compressed", flush=True)
    return Stream(content=content, packed=packed, sha256=sha256, unpacked=summed.size)


def _write(content: Content, sink: Sink) -> None:
    if content.kind == "file":
        with (content.site / content.files[0]).open("rb") as file:
            while data := file.read(CHUNK):
                sink.write(data)
    elif content.kind == "shared":
        _write_shared(content, sink)
    else:
        _write_tar(content, sink)


def _write_shared(content: Content, sink: Sink) -> None:
    """Write each name and its number of changed blocks, then those: where they are, and bytes."""
    for name in content.files:
        mine = content.site / name
        blocks = changes(content.theirs / name, mine) if mine.exists() else []
        sink.write(f"{name}\t{len(blocks)}\n".encode())
        for at, data in blocks:
            sink.write(at.to_bytes(8, "little") + data)


def _write_tar(content: Content, sink: Sink) -> None:
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]  # it only writes
        for name in content.files:
            path = content.site / name
            info = tarfile.TarInfo(name)
            info.size, info.mtime = path.stat().st_size, MTIME
            info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as file:
                tar.addfile(info, file)


def _joined(streams: Sequence[Stream]) -> Iterator[bytes]:
    for stream in streams:
        with stream.packed.open("rb") as file:
            while data := file.read(CHUNK):
                yield data


def _write_part(parts: Path, number: int, data: bytes) -> dict[str, object]:
    name = f"part.{number:02}"
    (parts / name).write_bytes(data)
    return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
