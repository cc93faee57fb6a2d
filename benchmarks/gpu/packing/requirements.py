"""Say what travelling distributions ask for that will not be there, or in another version.

An environment that is carried in parts has no installer to notice it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

THERE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "python_full_version": "3.12.3",
    "python_version": "3.12",
    "sys_platform": "linux",
}


def unmet(
    travelling: Iterable[Distribution], machine: Mapping[str, str], stays: Iterable[str]
) -> Iterator[str]:
    """Return a line for each requirement that is not met.

    machine: what the machine has and in which version, empty where that is not known. stays: what
    is installed beside the travelling ones and left out on purpose.
    """
    carried = list(travelling)
    versions = {
        **{canonicalize_name(name): version for name, version in machine.items()},
        **{canonicalize_name(one.metadata["Name"]): one.version for one in carried},
    }
    left_out = {canonicalize_name(name) for name in stays}
    for one in carried:
        for text in one.requires or ():
            wanted = Requirement(text)
            name = canonicalize_name(wanted.name)
            if wanted.marker is not None and not wanted.marker.evaluate({**THERE, "extra": ""}):
                continue
            asks = f"{one.metadata['Name']} {one.version} asks for {wanted.name}{wanted.specifier}"
            if name not in versions:
                yield f"{asks}, which {'is left out' if name in left_out else 'NOBODY HAS'}"
            elif versions[name] and not wanted.specifier.contains(versions[name], prereleases=True):
                yield f"{asks}; there is {versions[name]}"
