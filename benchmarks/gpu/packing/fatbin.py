"""Read the device code of a shared library: fatbin containers, and which entries a GPU picks.

NVIDIA documents no format; this was read off libraries that nvcc 12 and 13 made, and a driver
took what thin.py writes by it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ELF_MAGIC = b"\x7fELF"
FATBIN_MAGIC = b"\x50\xed\x55\xba"
CONTAINER_HEADER = 16
PTX, CUBIN = 1, 2
ALLOCATED = 2  # sh_flags: a part of the running program
NULL, NOBITS = 0, 8  # sh_type: without bytes in the file
LOADED_TYPES = (2, 3)  # e_type of programs and shared libraries
X86_64 = 62

Buffer = bytes | bytearray


class Section(NamedTuple):
    """A section of an ELF file and where its bytes lie."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int

    @property
    def is_loaded(self) -> bool:
        """Say whether the running program can see it."""
        return bool(self.flags & ALLOCATED)

    @property
    def has_containers(self) -> bool:
        """Say whether it holds device code; .nvFatBinSegment only points at it."""
        named = "fatbin" in self.name.lower() and self.name != ".nvFatBinSegment"
        return named and self.kind != NOBITS


class Container(NamedTuple):
    """What one source file became: a header, and entries of size bytes in all."""

    at: int
    size: int

    @property
    def body(self) -> int:
        """Return where the entries begin."""
        return self.at + CONTAINER_HEADER


class Entry(NamedTuple):
    """PTX or machine code for one architecture: a header, and size bytes of code."""

    at: int
    kind: int
    header: int
    size: int
    arch: int

    @property
    def end(self) -> int:
        """Return where the next entry begins."""
        return self.at + self.header + self.size


def is_library(data: Buffer) -> bool:
    """Say whether the loader maps this file: objects need the tables that it does not."""
    if data[:4] != ELF_MAGIC or len(data) < 64:
        return False
    kind, machine = struct.unpack_from("<HH", data, 16)
    return kind in LOADED_TYPES and machine == X86_64


def sections(data: Buffer) -> list[Section]:
    """Return the sections of a 64-bit ELF file, in its order."""
    (table,) = struct.unpack_from("<Q", data, 0x28)
    width, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    raw = [struct.unpack_from("<IIQQQQ", data, table + index * width) for index in range(count)]
    if not raw:
        return []
    names = raw[names_index][4]
    found = []
    for name, kind, flags, _, offset, size in raw:
        end = data.find(b"\0", names + name)
        found.append(Section(data[names + name : end].decode(), kind, flags, offset, size))
    return found


def containers(data: Buffer, start: int, size: int) -> Iterator[Container]:
    """Return the containers between start and start + size, whatever pads them."""
    at, end = start, start + size
    while (at := data.find(FATBIN_MAGIC, at, end)) >= 0:
        version, header, length = struct.unpack_from("<HHQ", data, at + 4)
        if version == 1 and header == CONTAINER_HEADER:
            yield Container(at, length)
            at += header + length
        else:  # the magic's bytes by chance
            at += 4


def entries(data: Buffer, container: Container) -> Iterator[Entry]:
    """Return the entries of a container."""
    at, end = container.body, container.body + container.size
    while at + 64 <= end:
        kind, _, header, size = struct.unpack_from("<HHIQ", data, at)
        if kind == 0 and header == 0:
            return
        (arch,) = struct.unpack_from("<I", data, at + 0x1C)
        entry = Entry(at, kind, header, size, arch)
        if entry.end > end:
            raise ValueError(f"an entry at {at:#x} leaves its container at {container.at:#x}")
        yield entry
        at = entry.end


def picked(found: Sequence[Entry], sm: int) -> list[Entry]:
    """Return those that a driver takes on a GPU of this architecture.

    Machine code runs on its own major number, from its own minor number on; where there is none,
    PTX of any older architecture is compiled. There may be several of the best (sm_90, sm_90a).
    """
    code = [one for one in found if one.kind == CUBIN and sm // 10 * 10 <= one.arch <= sm]
    fitting = code or [one for one in found if one.kind == PTX and one.arch <= sm]
    best = max((one.arch for one in fitting), default=None)
    return [one for one in fitting if one.arch == best]
