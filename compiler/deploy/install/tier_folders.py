"""Look at the folders of a plan's storage tiers, make them, and take them away again."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

from compiler.byte_units import GIB
from compiler.deploy.installation import Host
from compiler.deploy.probe.file_systems import (
    IN_MEMORY,
    NOT_DIRECT,
    filesystem,
    held_bytes,
    nearest,
)
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.process import Kind, Tier

_MODE = 0o700
_REFUSED_TYPES = {"disk": IN_MEMORY, "nixl": IN_MEMORY, "gds": NOT_DIRECT}
_WANTED_TYPE = {"weka": "wekafs"}


def tier_problems(host: Host, plan: Plan) -> Iterator[str]:
    """List what a host lacks for a plan's tiers; an image is asked for shared folders alone."""
    wanted: dict[int, tuple[int, Path]] = {}
    for tier in tiers_with_folder(plan):
        folder = host.at(Path(tier.folder))
        if tier.shared and not folder.is_dir():
            yield (
                f"there is no folder {tier.folder} of the tier {tier.kind}: mount it first, since "
                "one that dync makes would be on this host alone"
            )
        elif host.is_here:
            there = nearest(folder)
            yield from _type_problems(tier, filesystem(there))
            _count(tier, folder, there, wanted)
    for needed, there in wanted.values():
        free = shutil.disk_usage(there).free
        if free < needed:
            yield (
                f"the tiers on {there} may grow by {needed / GIB:.3g} GiB (size_gb), and "
                f"{free / GIB:.3g} GiB are free"
            )
    if any(process.kind is Kind.STORE for process in plan.processes) and not _has_redis(host):
        yield "there is no redis-server: apt install redis-server, or dnf install redis"


def tiers_with_folder(plan: Plan) -> tuple[Tier, ...]:
    """Return every tier that has a folder, each folder once."""
    tiers = (tier for process in plan.processes for tier in process.tiers if tier.folder)
    return tuple({tier.folder: tier for tier in tiers}.values())


def make_tier_folders(host: Host, plan: Plan) -> None:
    """Make the folders that are not there, for the deployment's account alone.

    Errors: HostError where one cannot be made; what lies above it is made open to all.
    """
    for tier in tiers_with_folder(plan):
        folder = host.at(Path(tier.folder))
        if tier.shared or folder.is_dir():
            continue
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=_MODE)
            if host.is_system:
                os.chown(folder, *_account(host, plan.user))
        except (OSError, LookupError) as error:
            raise HostError(
                f"cannot make the folder {folder} of the tier {tier.kind}: {error}"
            ) from error


def tier_data(host: Host, plan: Plan) -> tuple[Path, ...]:
    """Return the folders that only this deployment writes: what `--purge` takes away."""
    return tuple(host.at(Path(tier.folder)) for tier in tiers_with_folder(plan) if not tier.shared)


def _account(host: Host, user: str) -> tuple[int, int]:
    if host.is_here:
        entry = pwd.getpwnam(user)
        return entry.pw_uid, entry.pw_gid
    for line in host.at(Path("/etc/passwd")).read_text("utf-8").splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == user:
            return int(uid), int(gid)
    raise LookupError(f"no account {user}")


def _type_problems(tier: Tier, found: str) -> Iterator[str]:
    wanted = _WANTED_TYPE.get(tier.kind)
    if wanted and found != wanted:
        yield f"{tier.folder} is on {found}, and a tier of kind {tier.kind} needs {wanted}"
    if found in _REFUSED_TYPES.get(tier.kind, ()):
        yield f"{tier.folder} is on {found}, which a tier of kind {tier.kind} cannot use"


def _count(tier: Tier, folder: Path, there: Path, wanted: dict[int, tuple[int, Path]]) -> None:
    """Add what a tier may still write to what its device must have room for."""
    if tier.size_bytes is None:
        return
    used = held_bytes(folder)
    device = there.stat().st_dev
    before, first = wanted.get(device, (0, there))
    wanted[device] = (before + max(0, tier.size_bytes - used), first)


def _has_redis(host: Host) -> bool:
    folders = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
    return any(os.path.lexists(host.at(Path(folder) / "redis-server")) for folder in folders)
