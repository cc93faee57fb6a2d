"""A stack's lock: every package of its environment at one version, with the hash of each wheel.

A lock is a file of requirements as pip reads it. It is of one accelerator and one machine, and its
second line names the Pythons that it was made for; tools/lock_stacks.py makes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PYTHONS = "# Python: "
_HASH = "--hash=sha256:"
_EXACT = re.compile(r"==([^,*]+)")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One version of a package: where it is installed (an empty marker: everywhere), its wheels."""

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...]

    def wanted_by(self, python: str, machine: str = "") -> bool:
        """Return whether a Python, by its full version, gets this package."""
        facts = {
            "platform_machine": machine,
            "python_version": short(python),
            "python_full_version": python,
        }
        return not self.marker or Marker(self.marker).evaluate({**_HERE, **facts})


_HERE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What an environment is made of, for each Python that it may have."""

    pythons: tuple[str, ...]
    packages: tuple[LockedPackage, ...]

    def versions(self, python: str) -> dict[str, str]:
        """Return the version of each package for a Python, given by its full version."""
        return {item.name: item.version for item in self.packages if item.wanted_by(python)}


def short(python: str) -> str:
    """Shorten a Python's version to its first two numbers."""
    return ".".join(python.split(".")[:2])


def parse_lock(text: str) -> Lock:
    """Read a lock.

    Errors: ValueError where a line is no requirement of one version with hashes and nothing else.
    """
    pythons: tuple[str, ...] = ()
    for line in text.split("\n"):
        if line.startswith(PYTHONS):
            pythons = tuple(line.removeprefix(PYTHONS).split())
    return Lock(pythons=pythons, packages=tuple(map(_package, _lines(text))))


def _lines(text: str) -> Iterator[str]:
    """Return each requirement as one line."""
    for line in text.replace("\\\n", " ").split("\n"):
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def _package(line: str) -> LockedPackage:
    asked, *hashes = line.split(_HASH)
    wanted = Requirement(asked.strip())
    version = _EXACT.fullmatch(str(wanted.specifier))
    hashes = [item.strip() for item in hashes]
    if wanted.url or wanted.extras or not version or not hashes or not all(map(_HEX.fullmatch, hashes)):
        raise ValueError(f"no requirement of one version with hashes: {line!r}")
    return LockedPackage(
        name=canonicalize_name(wanted.name),
        version=version[1],
        marker=str(wanted.marker or ""),
        hashes=tuple(sorted(hashes)),
    )


def written(lock: Lock, title: str) -> str:
    """Write a lock; the same lock gives the same bytes."""
    head = f"# {title}\n{PYTHONS}{' '.join(lock.pythons)}\n"
    return head + "".join(map(_entry, sorted(lock.packages, key=_order)))


def _order(package: LockedPackage) -> tuple[str, str, str]:
    return package.name, package.version, package.marker


def _entry(package: LockedPackage) -> str:
    marker = f" ; {package.marker}" if package.marker else ""
    hashes = "".join(f" \\\n    {_HASH}{item}" for item in sorted(package.hashes))
    return f"{package.name}=={package.version}{marker}{hashes}\n"


def differences(found: Mapping[str, str | None], wanted: Mapping[str, str]) -> Iterator[str]:
    """Say which packages are of another version than wanted, or missing; others may be there."""
    for name, version in sorted(wanted.items()):
        here = found.get(name)
        if here is None or not _same(here, version):
            yield f"{name} is {here or 'missing'}, not {version}"


def _same(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
