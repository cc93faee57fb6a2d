"""Fill a stack's skeletons: braces name what the plan puts there.

A process has besides a word for each port that the stack asks for. The words of a tier are the
options of its kind, and those that follow from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from compiler.document import Json
from compiler.errors import CompilerBug

WORD = re.compile(r"\{([a-z_]+)\}")
PROCESS: Mapping[str, str] = {
    "bin": "the folder of the stack's programs",
    "python": "the stack's own Python",
    "name": "the deployment's name",
    "model": "model.id",
    "served_name": "model.served_name, or the id",
    "max_len": "model.max_len",
    "chunk_size": "lmcache.chunk_size, in tokens",
    "chunk_prompt": "token ids that fill a chunk",
    "probe_prompt": "the same, or text where LMCache is off",
    "cpu_cache_gb": "lmcache.cpu_cache_gb, in GiB",
    "drain_s": "deploy.drain_s",
    "etcd_endpoints": "discovery.etcd_endpoints, with commas between them",
    "nats_server": "discovery.nats_server",
}
"""What every process can be filled with."""
WORKER: Mapping[str, str] = {
    "host": "the address it listens on",
    "port": "its TCP port",
    "tensor_parallel_size": "its ranks",
    "without_hybrid_manager": "true where a connector lacks that manager, or nothing",
    "cache_port": "the TCP port of its cache server",
    "worker": "its name, as a process",
    "engine_file": "its engine's file, in the bundle",
    "lmcache_file": "its LMCache's file, in the bundle",
    "gpu_list": "its GPUs, with commas between them",
    "side_channel_port": "the TCP port by which NIXL's sides meet, or nothing",
}
CACHE_SERVER: Mapping[str, str] = {
    "cache_port": "the TCP port that workers talk to",
    "http_port": "the TCP port of health and metrics",
}
FRONTEND: Mapping[str, str] = {
    "host": "frontend.host",
    "port": "frontend.port",
    "policy": "the frontend's own word for frontend.routing",
}
EACH_WORKER: Mapping[str, str] = {"url": "the worker's URL"}
TIER: Mapping[str, str] = {
    "number": "its place in lmcache.tiers, from 1",
    "process": "the name of the process that caches",
    "folder": "`folder` as filled, with the process' own below it",
    "is_managed": "whether dync starts its server",
    "tls": "whether its server is reached by TLS",
    "host": "its server's address",
    "port": "its server's TCP port",
    "hosts_text": "all of its servers, with commas between them",
    "url": "its server's URL",
    "resp_url": "the same for LMCache's own client",
    "sentinel_url": "its Sentinels' URL",
    "cluster_url": "its cluster's URL",
    "keep_gb": "what may lie there at a start, in GiB",
    "run_gb": "the rest of size_gb, in GiB",
    "run_gb_text": "the same as text",
    "size_bytes": "size_gb in bytes",
    "slot_bytes": "slot_mb in bytes",
    "segment_bytes": "segment_gb in bytes",
    "buffer_bytes": "buffer_gb in bytes",
    "direct_io_text": "direct_io as text",
    "chunk_meta": "false with direct_io, or nothing",
    "valkey_mode": "cluster or standalone",
    "has_ttl": "true with ttl_s, or nothing",
    "without_tls": "the opposite of tls",
    "endpoint": "the endpoint, or the region's of S3",
    "own_adapter": "l2_adapter as it was given",
    "custom_place": "the type of l2_adapter",
}
"""What a tier can be filled with, besides the options of its kind in the profile."""


def fill(item: Json, values: Mapping[str, Json]) -> Json:
    """Fill one value; an item that is nothing but one word keeps that word's type."""
    if isinstance(item, dict):
        return {key: fill(value, values) for key, value in item.items()}
    if isinstance(item, list):
        return [fill(value, values) for value in item]
    if not isinstance(item, str) or "{" not in item:
        return item
    whole = WORD.fullmatch(item)
    if whole:
        return _word(whole[1], values)
    return WORD.sub(lambda match: text_of(_word(match[1], values)), item)


def fill_argv(
    items: Iterable[Any],
    values: Mapping[str, Json],
    each: Mapping[str, tuple[Mapping[str, Json], ...]] | None = None,
) -> tuple[str, ...]:
    """Fill an argv; {each: ROLE, argv: […]} repeats for every worker of that role."""
    argv: list[str] = []
    for item in items:
        if isinstance(item, dict):
            for worker in (each or {})[item["each"]]:
                argv.extend(fill_argv(item["argv"], worker))
        else:
            argv.append(text_of(fill(item, values)))
    return tuple(argv)


def text_of(value: Json) -> str:
    """Write a value as one word of a command line: 20.0 is 20."""
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)


def _word(name: str, values: Mapping[str, Json]) -> Json:
    if name not in values:
        raise CompilerBug(f"a stack's skeleton names {{{name}}}, known: {sorted(values)}")
    return values[name]
