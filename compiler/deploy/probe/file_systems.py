"""What a folder lies on, whether or not it is there yet, and what it holds."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from compiler.write.trees import walk

IN_MEMORY = ("tmpfs", "ramfs")
OVER_NETWORK = ("nfs", "nfs4", "cifs", "fuse.sshfs")


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    for place in (folder, *folder.absolute().parents):
        if os.path.isdir(place):  # in a closed folder nothing is, and nothing is raised
            return place
    return Path("/")


def filesystem(place: Path) -> str:
    """Return the type of the file system that a folder lies on."""
    real = os.path.realpath(place)
    mounts = {item.mountpoint: item.fstype for item in psutil.disk_partitions(all=True)}
    inside = [
        point for point in mounts if real == point or real.startswith(point.rstrip("/") + "/")
    ]
    return mounts[max(inside, key=len)] if inside else "an unknown file system"


def held_bytes(folder: Path) -> int:
    """Sum the sizes of the files below a folder; one that goes away meanwhile is left out."""
    total = 0
    for root, _, files in walk(str(folder)):
        for name in files:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total
