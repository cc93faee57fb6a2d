"""A tier's folder is none of the system's, nor lies in one.

dync install makes the folder and gives it to the deployment's account: in /etc/systemd/system, in
/usr/lib/python3 or in /root/.ssh that account could then change what root runs. The folders are
those of the Filesystem Hierarchy Standard; /mnt, /srv, /data, a home, and what lies in /var/cache,
/opt or /tmp are none of them. Nor may it lie among the stacks, whose programs it would be beside.

Accepted:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache:
      tiers:
        - disk: {path: /var/cache/kv, size_gb: 100}
        - fs: {path: /mnt}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache:
      tiers:
        - disk: {path: /usr/lib/python3.12, size_gb: 100}
    workers: [{role: aggregated, gpus: [0]}]

Source: Filesystem Hierarchy Standard 3.0, 3 and 5; systemd 252, file-hierarchy(7).
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.resolve.system_folders import SHARED, is_within, plain, system_folder
from compiler.topology import Topology

RULE = Rule(
    "tier-system-folder",
    Severity.ERROR,
    "the account that a tier's folder is given to could change there what root runs",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report a path that is, lies in or holds a folder of the system or of the stacks."""
    stacks = f"{plain(topology.deploy.prefix).rstrip('/')}/stacks"
    for tier in topology.lmcache.tiers:
        path = tier.options.get("path")
        if not isinstance(path, str) or not path.startswith("/"):
            continue
        said = _said(path, stacks)
        if said:
            yield RULE.at(
                tier.origin.of("path"),
                f"{path} {said}",
                fix=f"write path: /var/cache/{topology.name}-{tier.kind}, or a folder on a disk of "
                "its own, such as one below /mnt or /srv",
            )


def _said(path: str, stacks: str) -> str:
    """Say what is wrong with a folder's place; nothing where nothing is."""
    folder, system = plain(path), system_folder(path)
    if folder in SHARED:
        return "is a folder that all share"
    if not system:
        return f"lies in {stacks}, where the stacks are" if is_within(folder, stacks) else ""
    if folder == system:
        return "is a folder of the system"
    return f"{'lies in' if is_within(folder, system) else 'holds'} {system}, a folder of the system"
