"""Every tier of files has a folder for itself.

Each tier counts and removes its own files only, and dync takes the oldest away at a start: two in
one folder, or one below the other, remove each other's.

Accepted:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache:
      tiers:
        - disk: {path: /var/cache/kv, size_gb: 100}
        - fs: {path: /mnt/kv}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache:
      tiers:
        - disk: {path: /mnt/kv/fast, size_gb: 100}
        - fs: {path: /mnt/kv}
    workers: [{role: aggregated, gpus: [0]}]

Source: lmcache 0.5.6 v1/distributed/l2_adapters/native_connector_l2_adapter.py, _key_sizes;
v1/storage_backend/local_disk_backend.py, _key_to_path and remove.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import TierChoice, Topology

RULE = Rule(
    "tier-folder",
    Severity.ERROR,
    "each tier counts its own files only, and those of the other are removed or never found",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report folders of one tier that are, or lie in, those of another."""
    earlier: list[tuple[TierChoice, str]] = []
    for tier in topology.lmcache.tiers:
        path = tier.options.get("path") or tier.options.get("device")
        if not isinstance(path, str) or not path.startswith("/"):
            continue
        folder = posixpath.normpath(path)
        name = "path" if tier.options.get("path") else "device"
        for other, there in earlier:
            if _within(folder, there) or _within(there, folder):
                yield _shared(tier, name, folder, other)
                break
        mount = tier.options.get("mount_point")
        if isinstance(mount, str) and not _within(folder, posixpath.normpath(mount)):
            yield RULE.at(
                tier.origin.of(name),
                f"{folder} does not lie below {mount}",
                fix=f"write path: {mount.rstrip('/')}/kv",
                why="3FS is reached through its mount point",
            )
        earlier.append((tier, folder))


def _within(folder: str, other: str) -> bool:
    return f"{folder}/".startswith(f"{other.rstrip('/')}/")


def _shared(tier: TierChoice, name: str, folder: str, other: TierChoice) -> Diagnostic:
    return RULE.at(
        tier.origin.of(name),
        f"{folder} is shared with another tier",
        fix="give each tier a folder of its own, none below another",
        related=(Label(span=other.origin.of("path"), text="and here"),),
    )
