"""Find lines of a log that say that a cache or a transfer does not do its work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from compiler.deploy.finding import Finding, Verdict

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Sign:
    """A text that a log must not have: what it means, what to do, where it comes from.

    over: what a later line says when it has passed; it is a warning then.
    """

    pattern: re.Pattern[str]
    meaning: str
    fix: str
    verdict: Verdict = Verdict.FAIL
    over: re.Pattern[str] | None = None


_SIGNS = (
    # lmcache 0.5.6 lmcache/v1/manager.py: init and post_init go on without a cache.
    Sign(
        re.compile(r"degraded mode \(recompute\)|Failed to initialize LMCacheManager"),
        "LMCache gave up at its start and every prompt is computed: degraded mode",
        "mend what the line names; on a CPU in-process LMCache has no connector: "
        "lmcache.mode: multiprocess",
    ),
    Sign(
        re.compile(r"No supported \w+ connector found"),
        "in-process LMCache has no connector for this accelerator",
        "lmcache.mode: multiprocess",
    ),
    # lmcache 0.5.6 lmcache/integration/vllm/vllm_multi_process_adapter.py and message_queue.
    Sign(
        re.compile(r"LMCache server is unhealthy"),
        "the cache server did not answer the worker's ping: nothing is cached until it does",
        "see that the cache server runs and the machine does not stand still",
        over=re.compile(r"LMCache server is healthy again"),
    ),
    Sign(
        re.compile(r"No handler registered for operation"),
        "the cache server lacks what the worker asks for",
        "start the cache server as the bundle does (--supported-transfer-mode)",
    ),
    # lmcache 0.5.6 storage_backend/remote_backend.py: every lookup is a miss from then on.
    Sign(
        re.compile(r"Failed to initialize/re-establish remote connection"),
        "a storage tier cannot be reached: all its lookups miss",
        "dync doctor BUNDLE names the tier",
    ),
    Sign(
        re.compile(r"Failed to create remote backend|WRONGPASS|NOAUTH|Authentication required"),
        "a storage tier was refused",
        "dync doctor BUNDLE names the tier and its password file",
    ),
    Sign(
        re.compile(r"Timeout occurred for rank \d+, recreating all sockets"),
        "lookups in LMCache time out: 3 s lost at each request",
        "restart the worker and its cache server",
        Verdict.WARN,
    ),
    # lmcache 0.5.6 lmcache/v1/token_database.py.
    Sign(
        re.compile(r"Could not load '.*' from vLLM\. Using builtin hash"),
        "chunk hashes depend on each process's own seed",
        "pre_caching_hash_algorithm: sha256_cbor, and PYTHONHASHSEED the same everywhere",
        Verdict.WARN,
    ),
    Sign(
        re.compile(r"Insufficient /dev/shm capacity"),
        "the cache server copies through pickle instead of shared memory",
        "a larger /dev/shm, or a smaller lmcache.cpu_cache_gb",
        Verdict.WARN,
    ),
    Sign(
        re.compile(r"No space left on device|Errno 28"),
        "a disk is full: nothing more is stored there",
        "make room, or a smaller tier",
    ),
    # ai-dynamo 1.6.1: a lease in the discovery folder ran out while the machine stood still (seen).
    Sign(
        re.compile(r"keep_alive failed opening owned file"),
        "the frontend has forgotten this worker: its registration ran out, and is not made again",
        "restart the worker; on a machine that stands still for seconds: discovery.backend: etcd",
    ),
    # vllm 0.32.0 kv_connector/v1/nixl.
    Sign(
        re.compile(r"NIXL is not available|NIXL compatibility hash mismatch"),
        "NIXL does not work between these workers",
        "both sides need the same stack, dtype, block size and hybrid KV cache manager",
    ),
    # vllm 0.32.0 kv_connector/utils.py, block_size_ratio: every request gets 500 (seen).
    Sign(
        re.compile(r"Local block size \d+ is not divisible by remote block size"),
        "NIXL does not work between these workers: their block sizes do not fit",
        "the same engine_args: {block_size: …} on both sides",
    ),
    Sign(
        re.compile(r"NIXL_ERR_\w+"),
        "a transfer by NIXL failed",
        "one on a busy machine is the first handshake; more: both sides need the same block size",
        Verdict.WARN,
    ),
)


def scan(process: str, text: str) -> Iterator[Finding]:
    """Return a finding for each kind of sign that a process's log has, with its first such line."""
    lines = _ESCAPES.sub("", text).replace("\r", "\n").split("\n")
    for sign in _SIGNS:
        at = [number for number, line in enumerate(lines) if sign.pattern.search(line)]
        if not at:
            continue
        is_over = sign.over is not None and any(map(sign.over.search, lines[at[-1] :]))
        times = f" ({len(at)} times)" if len(at) > 1 else ""
        since = ", and is over" if is_over else ""
        yield Finding(
            check="log",
            subject=process,
            verdict=Verdict.WARN if is_over else sign.verdict,
            message=f"{sign.meaning}{times}{since}: {lines[at[0]].strip()[:_SHOWN]}",
            fix=sign.fix,
        )
