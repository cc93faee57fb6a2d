"""Emitted bundles against command lines written by hand, in turn, on one machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import lines
from benchmarks.gpu.rig.bundle import Launched, launched, workers
from benchmarks.gpu.rig.engine import Line, start, wait_ready
from benchmarks.gpu.rig.exact import HITS
from benchmarks.gpu.rig.kit import Kit
from benchmarks.gpu.rig.load import Served, first_tokens, following, shared_prefix, working_set
from benchmarks.gpu.rig.nixl_pair import protocols_by_rank
from benchmarks.gpu.rig.pairs import NIXL
from benchmarks.gpu.rig.prompts import text
from benchmarks.gpu.rig.truth import dync
from demo.client import ask, metric

LENGTHS = (8000, 24000)
REPEATS = 3
KV_BYTES = 8_000_000_000
CPU_GB = 20
CHUNK_SIZES = (128, 512, 1024)
BLOCK_SIZES = (16, 64, 128)
"""Tokens in a chunk, and in a block beside NIXL, where 16 is the engines' default."""
FOUR_DISAGG, FOUR_WIDER_DECODE = "timed-four-disagg", "timed-four-disagg-wider-decode"
SERVER_THREADS = (1, 2, 4)
"""`--max-workers` of `lmcache server`, whose default is 1."""


def four_agg(threads: int) -> str:
    """Name the bundle of two workers of two ranks by the threads of their cache server."""
    return f"timed-four-agg-threads-{threads}"


def in_process(kit: Kit, logs: Path) -> dict[str, Any]:
    """Time LMCache inside the worker, emitted and by hand, and an engine without LMCache."""
    worker = _worker(kit, "in-process-by-hand", 19201, lines.IN_PROCESS, lines.OLD_RUNNER)
    return _measure(logs, ["timed-off", "timed-in-process"], [[worker]])


def hashing(kit: Kit, logs: Path) -> dict[str, Any]:
    """Time what hashing chunks costs: the bundle's function against LMCache's default, by hand."""
    by_hand = [
        _worker(kit, f"in-process-{name}", port, lines.IN_PROCESS, {**lines.OLD_RUNNER, **env})
        for name, port, env in (
            ("builtin", 19204, {}),
            ("sha256", 19205, {"LMCACHE_PRE_CACHING_HASH_ALGORITHM": "sha256_cbor"}),
        )
    ]
    return _measure(logs, ["timed-in-process"], [[worker] for worker in by_hand])


def multiprocess(kit: Kit, logs: Path) -> dict[str, Any]:
    """Time LMCache in a server, emitted and by hand, and in_process under piecewise graphs."""
    server = lines.cache_server(kit, "server-by-hand", 19001, 19101, CPU_GB)
    worker = _worker(kit, "multiprocess-by-hand", 19202, lines.multiprocess(19001), {})
    piecewise = _worker(kit, "in-process-piecewise", 19203, lines.IN_PROCESS, {}, *lines.PIECEWISE)
    return _measure(logs, ["timed-multiprocess"], [[worker, server], [piecewise]])


def chunks(_kit: Kit, logs: Path) -> dict[str, Any]:
    """Hold the chunk sizes of the reference page's advice against each other."""
    names = [f"timed-chunk-{size}" for size in CHUNK_SIZES]
    return _measure(logs, names, [])


def disaggregated(kit: Kit, logs: Path) -> dict[str, Any]:
    """Time prefill and decode on one card, which have no room beside others, by block size."""

    def then(serving: Sequence[Launched], _served: Mapping[str, Served]) -> dict[str, Any]:
        return {"verify": _verified(kit, serving)}

    names = [f"timed-disagg-blocks-{size}" for size in BLOCK_SIZES]
    return {name: _measure(logs / name, [name], [], then) for name in names}


def two_gpus(kit: Kit, logs: Path) -> dict[str, Any]:
    """Time prefill and decode on two GPUs against a whole worker on each; verify proves both."""
    names = ["timed-two-disagg", "timed-two-disagg-off", "timed-two-agg"]
    return _measure(logs, names, [], lambda *found: _several(kit, *found))


def four_gpus(kit: Kit, logs: Path) -> dict[str, Any]:
    """Time two ranks on each side, two and one, and two whole workers of two; verify proves all."""
    names = [FOUR_DISAGG, FOUR_WIDER_DECODE, four_agg(1)]
    return _measure(logs, names, [], lambda *found: _several(kit, *found))


def server_threads(kit: Kit, logs: Path) -> dict[str, Any]:
    """Time two workers of two ranks on one cache server by the threads that it has."""
    names = [four_agg(threads) for threads in SERVER_THREADS]
    return _measure(logs, names, [], lambda *found: _several(kit, *found))


def _several(kit: Kit, serving: Sequence[Launched], served: Mapping[str, Served]) -> dict[str, Any]:
    """Measure what only deployments on several GPUs are asked for."""
    logs = {item.name: item.folder / "logs" / "decode-0.log" for item in serving}
    return {
        "shared_prefix": {name: shared_prefix(where, name) for name, where in served.items()},
        "transport": {
            name: protocols_by_rank(log.read_text(errors="replace"))
            for name, log in logs.items()
            if log.is_file()
        },
        "verify": _verified(kit, serving),
        "counters_at_last": {item.name: _counters(item.plan) for item in serving},
    }


def _verified(kit: Kit, serving: Sequence[Launched]) -> dict[str, Any]:
    return {item.name: dync(kit, "verify", item.name) for item in serving}


def _worker(
    kit: Kit, name: str, port: int, connector: dict[str, Any], env: dict[str, str], *flags: str
) -> Line:
    return lines.worker(
        kit,
        name,
        port,
        "--no-enable-prefix-caching",
        "--load-format",
        "dummy",
        "--max-model-len",
        "32768",
        *flags,
        model="8b",
        connector=connector,
        env={**lines.in_process_env(kit, CPU_GB), **env},
        fraction=0.3,
        kv_bytes=KV_BYTES,
    )


def _measure(
    logs: Path,
    bundles: Sequence[str],
    by_hand: Sequence[Sequence[Line]],
    then: Callable[[Sequence[Launched], Mapping[str, Served]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Start all side by side, then time each: prompts in turn, loads one after another, twice.

    then: what else is measured while they serve.
    """
    with ExitStack() as stack:
        started = [[start(line, logs) for line in group] for group in by_hand]
        for engine in (engine for group in started for engine in group):
            stack.callback(engine.kill)
        serving = stack.enter_context(launched(bundles, logs, 300))
        served: dict[str, Served] = {}
        for item in serving:
            served[item.name] = (item.url, item.plan["served_name"])
        ready = {item.name: item.ready_s for item in serving}
        for group in started:
            if len(wait_ready(group, 200)) == len(group):
                name = group[0].line.name
                served[name] = (f"{group[0].line.url}/v1", "m")
                ready[name] = max(engine.ready_s or 0.0 for engine in group)
        found: dict[str, Any] = {"ready_s": ready, "failed": _leave_out_failing(served)}
        found["first_token_s"] = first_tokens(served, LENGTHS, REPEATS)
        found["following"] = {name: following(where, name) for name, where in served.items()}
        found["working_set"] = {name: [] for name in served}
        for turn in range(2):
            for name, where in reversed(served.items()) if turn else served.items():
                found["working_set"][name].append(working_set(where, name, f"{name}-{turn}"))
        found["metrics"] = {item.name: _counters(item.plan) for item in serving}
        found |= then(serving, served) if then else {}
        print(json.dumps(found), flush=True)  # whatever becomes of stopping
        return found


def _leave_out_failing(served: dict[str, Served]) -> dict[str, str]:
    """Take out what does not answer the longest prompt, so that the others are timed; say why."""
    failed = {}
    for name, (url, model) in list(served.items()):
        try:
            ask(url, model, text(LENGTHS[-1], f"first-{name}"), 2, ignore_eos=True)
        except (OSError, RuntimeError, ValueError) as error:
            failed[name] = repr(error)
            del served[name]
            print(f"  {name} FAILS: {error!r}", flush=True)
    return failed


def _counters(plan: dict[str, Any]) -> dict[str, float]:
    sums = (f"vllm:nixl_{what}_sum" for what in NIXL)
    wanted = (HITS, *sums, "vllm:nixl_bytes_transferred_count")
    return {
        f"{worker['name']} {name}": metric(worker["metrics"], name)
        for worker in workers(plan)
        for name in wanted
    }
