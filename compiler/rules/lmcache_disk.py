"""LMCache's own disk tier has a folder for each worker, and is known to forget.

Each engine keeps the index of its files in memory and removes files as it evicts: two engines in
one folder remove each other's, and after a restart old files are neither read nor removed.

Accepted:
    name: disk
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0, 1], replicas: 2}]

Rejected:
    name: disk
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0, 1]
        replicas: 2
        engine_args: {enforce_eager: true}
        env: {LMCACHE_LOCAL_DISK: /var/lib/kv, LMCACHE_MAX_LOCAL_DISK_SIZE: 100}

Source: lmcache 0.5.6 v1/storage_backend/local_disk_backend.py, _key_to_path and remove, and
path_sharder.py, paths[device_id % len(paths)].
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import Accelerator, CacheMode, Topology, WorkerGroup

RULE = Rule(
    "lmcache-disk",
    Severity.ERROR,
    "each engine counts its own files only, and removes what another one still counts on",
)
_NAME = "LMCACHE_LOCAL_DISK"


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report folders that several workers share, and what a disk tier does not do."""
    if topology.lmcache.mode is not CacheMode.IN_PROCESS:
        return
    owners: dict[str, WorkerGroup] = {}
    for group in topology.workers:
        folders = _folders(group.env.get(_NAME, ""))
        if not folders or not topology.uses_lmcache(group):
            continue
        shared = next((folder for folder in folders if folder in owners), None)
        if shared is not None:
            yield _shared(group, shared, owners[shared])
        elif group.replicas > 1:
            yield _shared(group, folders[0], None)
        else:
            yield from _limits(topology, group, folders)
        owners.update(dict.fromkeys(folders, group))


def _folders(text: str) -> list[str]:
    """List the folders that LMCache reads from its key, without scheme and last slash."""
    parts = [part.strip().removeprefix("file://").rstrip("/") for part in text.split(",")]
    return [part for part in parts if part]


def _shared(group: WorkerGroup, folder: str, other: WorkerGroup | None) -> Diagnostic:
    related = other and (Label(span=other.origin.of("env", _NAME), text="and here"),)
    return RULE.at(
        group.origin.of("env", _NAME),
        f"several workers keep their disk tier in {folder}",
        fix=f"write lmcache.tiers: [disk: …], or one group for each worker: {folder}/1, {folder}/2",
        label="" if other else f"{group.replicas} workers",
        related=related or (),
    )


def _limits(topology: Topology, group: WorkerGroup, folders: list[str]) -> Iterator[Diagnostic]:
    span = group.origin.of("env", _NAME)
    yield RULE.at(
        span,
        f"what lies in {folders[0]} is not read again after a restart, nor removed",
        fix=f"empty {folders[0]} before each start, "
        "or write lmcache.tiers: [disk: …], which does so",
        why="the index of a disk tier lives in memory",
        severity=Severity.WARNING,
    )
    is_cuda = topology.accelerator is Accelerator.CUDA
    if len(folders) > 1 and group.tensor_parallel_size == 1 and is_cuda:
        yield RULE.at(
            span,
            f"of {len(folders)} folders a worker with one GPU uses only {folders[0]}",
            fix=f"write {_NAME}: {folders[0]}",
            why="LMCache picks the folder by the number of the GPU that the worker sees, "
            "which is 0",
            severity=Severity.WARNING,
        )
