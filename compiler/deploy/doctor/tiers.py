"""Folders of storage tiers: there or to be made, on a file system that does, with room."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from compiler.byte_units import GIB
from compiler.deploy.accounts import find_account, owner_name
from compiler.deploy.doctor.disk import LEAST
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.deploy.probe.file_systems import (
    IN_MEMORY,
    OVER_NETWORK,
    filesystem,
    held_bytes,
    nearest,
)
from compiler.deploy.tier_place import misplaced, trusted_on_the_way
from compiler.plan import Plan
from compiler.process import Tier
from compiler.stacks.tier_specs import TierSpec

_DRIVERS = Path("/proc/driver")
_UNKNOWN = TierSpec()


def check(subject: Subject) -> Iterator[Finding]:
    """Look at every tier's folder; an image is asked for its place, and for shared ones alone."""
    tiers = tiers_with_folder(subject.plan)
    specs = subject.specs if tiers else {}
    there = []
    for tier in tiers:
        wrong = misplaced(subject.host, tier.folder, subject.stacks, _owners(subject, tier))
        if wrong:
            yield failed("disk", tier.folder, wrong.why, wrong.fix)
        elif tier.shared and not os.path.isdir(subject.host.at(Path(tier.folder))):
            yield failed(
                "disk", tier.folder, f"there is no folder {tier.folder} of the tier {tier.kind}",
                "mount it first, since one that dync makes would be on this host alone",
            )  # fmt: skip
        elif subject.host.is_here:
            there.append(tier)
            yield from _access(subject, tier)
            yield from _types(tier, specs.get(tier.kind, _UNKNOWN))
    yield from _room(there)


def _owners(subject: Subject, tier: Tier) -> frozenset[int]:
    """Return whose folders may be on the way to a tier's; none where root makes nothing there."""
    if tier.shared or not subject.is_by_root:
        return frozenset()
    return trusted_on_the_way(subject.host, subject.account)


def tiers_with_folder(plan: Plan) -> tuple[Tier, ...]:
    """Return every tier that has a folder, each folder once."""
    tiers = (tier for process in plan.processes for tier in process.tiers if tier.folder)
    return tuple({tier.folder: tier for tier in tiers}.values())


def _access(subject: Subject, tier: Tier) -> Iterator[Finding]:
    """Look whether the account may write a folder, or whoever runs this may make it."""
    folder = tier.folder
    place = nearest(Path(folder))
    what = f"where its tier {tier.kind} is to be"
    if os.path.isdir(folder):
        yield from _others(subject, tier)
        if not subject.may("test", "-w", folder, "-a", "-x", folder):
            owner = subject.account or "your account"
            yield failed(
                "disk",
                folder,
                f"{subject.who} cannot write {folder}, {what}",
                f"give it to {owner} (chown), and open the folders above it (chmod o+x)",
            )
    elif (os.geteuid() == 0 or not subject.account) and not os.access(place, os.W_OK):
        yield failed(
            "disk",
            folder,
            f"{folder} cannot be made: {place} cannot be written",
            f"mkdir -p {folder} and give it to the processes' account",
        )
    elif not subject.may("test", "-x", str(place)):
        yield failed(
            "disk",
            folder,
            f"{subject.who} cannot reach {folder}, {what}",
            f"open {place} to it (chmod o+x), or choose another path",
        )


def _others(subject: Subject, tier: Tier) -> Iterator[Finding]:
    """Look whether others own or may write what the processes will take for their own KV."""
    folder, status = tier.folder, os.stat(tier.folder)
    account = find_account(subject.host, subject.account) if subject.account else None
    own = (0, account[0] if account else os.geteuid())
    if tier.shared or (subject.account and account is None):
        return
    if status.st_uid not in own:
        yield failed(
            "disk",
            folder,
            f"{folder}, where its tier {tier.kind} is to be, belongs to "
            f"{owner_name(status.st_uid)}, who can read and change what is cached",
            f"chown -R {subject.account or '$USER'} {folder}, or choose another path",
        )
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield warned(
            "disk",
            folder,
            f"others may write {folder}, where its tier {tier.kind} is to be, and so change what "
            "is cached",
            f"chmod go-w {folder}",
        )


def _types(tier: Tier, spec: TierSpec) -> Iterator[Finding]:
    """Compare the file system below a folder, and its driver, with what the kind needs."""
    folder, found = tier.folder, filesystem(nearest(Path(tier.folder)))
    if spec.needs_fs and found != spec.needs_fs:
        yield failed(
            "disk", folder,
            f"{folder} is on {found}, and a tier of kind {tier.kind} needs {spec.needs_fs}",
            f"mount {spec.needs_fs} there, or choose another kind of tier",
        )  # fmt: skip
    if found in spec.refused_on:
        why = " (it takes host memory twice, and is gone after a boot)" * (found in IN_MEMORY)
        yield failed(
            "disk", folder,
            f"{folder} is on {found}, which a tier of kind {tier.kind} cannot use{why}",
            "a folder on a disk: ext4 or xfs",
        )  # fmt: skip
    elif found in IN_MEMORY:
        yield warned(
            "disk", folder, f"lies on {found}: it takes host memory and is gone after a boot",
            "a folder on a disk",
        )  # fmt: skip
    elif found in OVER_NETWORK:
        yield warned(
            "disk", folder, f"lies on {found}: reading may take longer than computing again",
            "a local NVMe disk",
        )  # fmt: skip
    if spec.wants_driver and not (_DRIVERS / spec.wants_driver).exists():
        yield warned(
            "disk", folder,
            f"the driver {spec.wants_driver} is not loaded: cuFile copies through host memory",
            f"modprobe {spec.wants_driver} (package nvidia-gds)",
        )  # fmt: skip


def _room(tiers: Iterable[Tier]) -> Iterator[Finding]:
    """Add up what the tiers of each device may still write, beside what lies there already."""
    wanted: dict[int, tuple[int, Path]] = {}
    for tier in tiers:
        place = nearest(Path(tier.folder))
        more = LEAST if tier.size_bytes is None else tier.size_bytes - held_bytes(Path(tier.folder))
        device = place.stat().st_dev
        before, first = wanted.get(device, (0, place))
        wanted[device] = (before + max(0, more), first)
    for needed, place in wanted.values():
        free = shutil.disk_usage(place).free
        text = f"the tiers on {place} may grow by {needed / GIB:.3g} GiB, and {free / GIB:.3g} GiB"
        if free < needed:
            yield failed(
                "disk",
                str(place),
                f"{text} are free",
                "make room, choose another disk, or a smaller size_gb",
            )
        else:
            yield passed("disk", str(place), f"{text} are free on {filesystem(place)}")
