"""Disks: room where logs and tiers are written, and file systems that can hold a tier."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from compiler.byte_units import GIB
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.deploy.probe.file_systems import (
    IN_MEMORY,
    NOT_DIRECT,
    filesystem,
    held_bytes,
    nearest,
)
from compiler.process import Process, Tier

_LEAST = GIB
"""Logs and sockets of a deployment; less is a full disk soon."""
_OVER_NETWORK = ("nfs", "nfs4", "cifs", "fuse.sshfs")
_NVIDIA_FS = Path("/proc/driver/nvidia-fs")


def check(subject: Subject) -> Iterator[Finding]:
    """Look at the bundle's own disk and at each tier's folder."""
    yield _room("bundle", subject.folder, _LEAST)
    for process in subject.plan.processes:
        for tier in process.tiers:
            if tier.folder:
                yield from _tier(process, tier)


def _tier(process: Process, tier: Tier) -> Iterator[Finding]:
    folder = Path(tier.folder)
    place = nearest(folder)
    if not os.access(place, os.W_OK):
        yield failed(
            "disk", str(folder), f"{process.name} keeps its {tier.kind} tier there and {place} "
            "cannot be written", f"mkdir -p {folder} and give it to the processes' account",
        )  # fmt: skip
        return
    held = held_bytes(folder)
    yield _room(f"{tier.kind} tier", folder, max((tier.size_bytes or 0) - held, _LEAST))
    kind = filesystem(place)
    if kind in IN_MEMORY:
        yield warned(
            "disk", str(folder), f"lies on {kind}: it takes host memory and is gone after a boot",
            "a folder on a disk",
        )  # fmt: skip
    elif kind in _OVER_NETWORK:
        yield warned(
            "disk", str(folder), f"lies on {kind}: reading may take longer than computing again",
            "a local NVMe disk",
        )  # fmt: skip
    if tier.kind == "gds" and not _NVIDIA_FS.exists():
        yield warned(
            "disk",
            str(folder),
            "the driver nvidia-fs is not loaded: cuFile copies through host memory",
            "modprobe nvidia-fs (package nvidia-gds)",
        )
    if tier.kind == "gds" and kind in NOT_DIRECT:
        yield failed(
            "disk", str(folder), f"lies on {kind}, which GPUDirect Storage cannot read directly",
            "a folder on ext4 or xfs on NVMe",
        )  # fmt: skip


def _room(what: str, folder: Path, wanted: int) -> Finding:
    place = nearest(folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return failed("disk", str(folder), f"{what}: {error.strerror}", "another folder")
    kind = filesystem(place)
    text = f"{what}: {free / GIB:.1f} GiB free on {kind}, {wanted / GIB:.1f} GiB wanted"
    if free < wanted:
        return failed(
            "disk", str(folder), text, "make room, choose another disk, or a smaller tier"
        )
    return passed("disk", str(folder), text)
