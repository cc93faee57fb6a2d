"""Cut a library down to what one GPU and the loader read; addresses and sizes stay.

What is cut becomes zeros, which xz takes for nothing and an installer leaves as holes. So
nothing in the file moves, and nothing that points into it has to be fixed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import shutil
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.gpu.packing.fatbin import (
    CUBIN,
    NOBITS,
    NULL,
    PTX,
    Container,
    Entry,
    Section,
    containers,
    entries,
    is_library,
    picked,
    sections,
)

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
KERNEL = re.compile(rb"\.text\.([\w$]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How much of a library's device code is left out beyond what the GPU does not pick.

    ptx: also where it is all there is. empty: sections of which nothing is kept. kernels: a
    pattern; entries whose kernels all match it.
    """

    ptx: bool = False
    empty: frozenset[str] = frozenset()
    kernels: str = ""


@dataclass(slots=True)
class Tally:
    """What was done to a library, in bytes and containers."""

    tables: int = 0
    kept: int = 0
    cut: int = 0
    fillers: int = 0
    too_small: int = 0


@dataclass(slots=True)
class Cutter:
    """Cuts for one architecture, with one filler for containers that lose everything.

    A container must hold something that the driver can read, so what is empty gets an entry of
    another architecture: asking for its kernels then fails by name, as on a GPU too old.
    """

    sm: int
    filler: bytes

    def thin(self, source: Path, target: Path, cut: Cut) -> Tally:
        """Write source to target, cut."""
        data = bytearray(source.read_bytes())
        tally = Tally()
        if is_library(data):
            for section in sections(data):
                if not section.is_loaded:
                    tally.tables += _erase_table(data, section)
                elif section.has_containers:
                    for container in list(containers(data, section.offset, section.size)):
                        self._thin_container(data, container, section.name, cut, tally)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        shutil.copymode(source, target)
        return tally

    def _thin_container(
        self, data: bytearray, container: Container, section: str, cut: Cut, tally: Tally
    ) -> None:
        kept = [
            bytes(data[entry.at : entry.end])
            for entry in picked(list(entries(data, container)), self.sm)
            if section not in cut.empty and not _is_left_out(data, entry, cut)
        ]
        body = b"".join(kept)
        tally.kept += len(body)
        if not kept:
            if len(self.filler) > container.size:
                tally.too_small += 1
                return
            tally.fillers += 1
            body = self.filler
        tally.cut += container.size - len(body)
        end = container.body + container.size
        data[container.body : end] = body + bytes(container.size - len(body))
        struct.pack_into("<Q", data, container.at + 8, len(body))


def find_filler(library: Path, sm: int) -> bytes:
    """Return the smallest entry of the oldest architecture there that the GPU never picks."""
    data = library.read_bytes()
    foreign = [
        entry
        for section in sections(data)
        if section.is_loaded and section.has_containers
        for container in containers(data, section.offset, section.size)
        for entry in entries(data, container)
        if entry.kind == CUBIN and entry.arch // 10 < sm // 10
    ]
    if not foreign:
        raise ValueError(f"{library} has no code for a GPU older than sm_{sm}: no filler")
    least = min(foreign, key=lambda entry: (entry.arch, entry.end - entry.at))
    return data[least.at : least.end]


def _erase_table(data: bytearray, section: Section) -> int:
    """Make symbol and debug tables zeros; section names stay, so that tools can read the file."""
    if section.kind in (NULL, NOBITS) or section.name == ".shstrtab":
        return 0
    data[section.offset : section.offset + section.size] = bytes(section.size)
    return section.size


def _is_left_out(data: bytearray, entry: Entry, cut: Cut) -> bool:
    if cut.ptx and entry.kind == PTX:
        return True
    if not cut.kernels:
        return False
    names = kernels_of(bytes(data[entry.at + entry.header : entry.end]))
    return bool(names) and all(re.search(cut.kernels.encode(), name) for name in names)


def kernels_of(code: bytes) -> set[bytes]:
    """Return the names of the kernels in machine code, which nvcc may have compressed."""
    return set(KERNEL.findall(_unzstd(code) if code.startswith(ZSTD_MAGIC) else code))


@cache
def _libzstd() -> ctypes.CDLL:
    name = ctypes.util.find_library("zstd")
    if name is None:
        raise OSError("libzstd is not here, and the library's device code is compressed with it")
    library = ctypes.CDLL(name)
    library.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
    library.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_isError.restype = ctypes.c_uint
    return library


def _unzstd(data: bytes) -> bytes:
    """Decompress one frame; Python has no zstd of its own before 3.14."""
    library = _libzstd()
    room = library.ZSTD_getFrameContentSize(data, ctypes.c_size_t(len(data)))
    if room >= 1 << 40:
        raise ValueError("device code in zstd that does not say its size")
    plain = ctypes.create_string_buffer(room)
    size = library.ZSTD_findFrameCompressedSize(data, ctypes.c_size_t(len(data)))
    got = library.ZSTD_decompress(plain, ctypes.c_size_t(room), data, ctypes.c_size_t(size))
    if library.ZSTD_isError(ctypes.c_size_t(got)):
        raise ValueError("device code in zstd is damaged")
    return plain.raw[:got]
