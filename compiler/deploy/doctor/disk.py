"""The disk that the bundle lies on: room for logs and sockets of what launch.sh starts there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from compiler.byte_units import GIB
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed
from compiler.deploy.probe.file_systems import filesystem, nearest

LEAST = GIB
"""What anything that grows without a size of its own must have; less is a full disk soon."""


def check(subject: Subject) -> Iterator[Finding]:
    """Look at the bundle's own disk."""
    place, folder = nearest(subject.folder), str(subject.folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        yield failed("disk", folder, f"bundle: {error.strerror}", "another folder")
        return
    kind = filesystem(place)
    text = f"bundle: {free / GIB:.1f} GiB free on {kind}, {LEAST / GIB:.1f} GiB wanted"
    if free < LEAST:
        yield failed("disk", folder, text, "make room, or build it on another disk")
    else:
        yield passed("disk", folder, text)
