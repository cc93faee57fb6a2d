"""Disks: room where logs and tiers are written, and file systems that can hold a tier."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.plan import Process, Tier

_LEAST = 2**30
"""Logs and sockets of a deployment; less is a full disk soon."""
_IN_MEMORY = ("tmpfs", "ramfs")
_OVER_NETWORK = ("nfs", "nfs4", "cifs", "fuse.sshfs")
_NVIDIA_FS = Path("/proc/driver/nvidia-fs")
_NO_DIRECT = ("overlay", "tmpfs", "ramfs", "zfs")


def check(subject: Subject) -> Iterator[Finding]:
    """Look at the bundle's own disk and at each tier's folder."""
    yield _room("bundle", subject.folder, _LEAST)
    for process in subject.plan.processes:
        for tier in process.tiers:
            if tier.folder:
                yield from _tier(process, tier)


def _tier(process: Process, tier: Tier) -> Iterator[Finding]:
    folder = Path(tier.folder)
    place = _existing(folder)
    if not os.access(place, os.W_OK):
        yield failed(
            "disk", str(folder), f"{process.name} keeps its {tier.kind} tier there and {place} "
            "cannot be written", f"mkdir -p {folder} and give it to the processes' account",
        )  # fmt: skip
        return
    held = _held(folder) if folder.is_dir() else 0
    yield _room(f"{tier.kind} tier", folder, max((tier.size_bytes or 0) - held, _LEAST))
    kind = filesystem(place)
    if kind in _IN_MEMORY:
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
    if tier.kind == "gds" and kind in _NO_DIRECT:
        yield failed(
            "disk", str(folder), f"lies on {kind}, where LMCache turns GPUDirect Storage off",
            "a folder on ext4 or xfs on NVMe",
        )  # fmt: skip


def _room(what: str, folder: Path, wanted: int) -> Finding:
    place = _existing(folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return failed("disk", str(folder), f"{what}: {error.strerror}", "another folder")
    kind = filesystem(place)
    text = f"{what}: {free / 2**30:.1f} GiB free on {kind}, {wanted / 2**30:.1f} GiB wanted"
    if free < wanted:
        return failed(
            "disk", str(folder), text, "make room, choose another disk, or a smaller tier"
        )
    return passed("disk", str(folder), text)


def _existing(folder: Path) -> Path:
    """Give the folder, or the nearest one above it that is there."""
    for place in (folder, *folder.absolute().parents):
        if place.is_dir():
            return place
    return Path("/")


def _held(folder: Path) -> int:
    """Give the bytes that a tier holds already: they are its own."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total


def filesystem(place: Path) -> str:
    """Give the type of the file system that a folder lies on."""
    real = os.path.realpath(place)
    mounts = {item.mountpoint: item.fstype for item in psutil.disk_partitions(all=True)}
    inside = [
        point for point in mounts if real == point or real.startswith(point.rstrip("/") + "/")
    ]
    return mounts[max(inside, key=len)] if inside else "an unknown file system"
