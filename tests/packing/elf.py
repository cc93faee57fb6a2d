"""Make a small library with device code, as nvcc and the linker lay one out."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

PTX, CUBIN = 1, 2
ALLOCATED = 2
STRING_TABLE, PROGRAM_BITS, SYMBOL_TABLE = 3, 1, 2


def entry(kind: int, arch: int, code: bytes) -> bytes:
    header = struct.pack("<HHIQ", kind, 0x101, 64, len(code)).ljust(0x1C, b"\0")
    return (header + struct.pack("<I", arch)).ljust(64, b"\0") + code


def container(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return b"\x50\xed\x55\xba" + struct.pack("<HHQ", 1, 16, len(body)) + body


def library(sections: Iterable[tuple[str, int, int, bytes]], kind: int = 3) -> bytes:
    """Return an ELF file of named sections: type, flags and bytes of each."""
    given = [("", 0, 0, b""), *sections]
    names = b"".join(name.encode() + b"\0" for name, *_ in given) + b".shstrtab\0"
    given.append((".shstrtab", STRING_TABLE, 0, names))
    body, table, at = b"", b"", 0
    for name, section_kind, flags, data in given:
        fields = (at, section_kind, flags, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        table += struct.pack("<IIQQQQIIQQ", *fields)
        body += data
        at += len(name) + 1
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HH", kind, 62)
    header = header.ljust(0x28, b"\0") + struct.pack("<Q", 64 + len(body))
    header = header.ljust(0x3A, b"\0") + struct.pack("<HHH", 64, len(given), len(given) - 1)
    return header + body + table


def with_device_code(*containers: bytes, between: bytes = b"\0" * 24) -> bytes:
    """Return a library whose containers stand apart, between code and a symbol table."""
    device = between.join(containers)
    return library(
        [
            (".text", PROGRAM_BITS, ALLOCATED, b"\x90host code"),
            (".nv_fatbin", PROGRAM_BITS, ALLOCATED, device),
            (".symtab", SYMBOL_TABLE, 0, b"symbols" * 9),
        ]
    )


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
