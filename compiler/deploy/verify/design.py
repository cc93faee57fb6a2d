"""Choose the prompt that proves something here, or say why none can."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compiler.deploy.finding import Finding, failed, skipped
from compiler.deploy.probe.cache_server import server_status
from compiler.deploy.probe.http_client import Access, get_json, process_url
from compiler.deploy.probe.processes import Running
from compiler.deploy.probe.sockets import Ownership
from compiler.deploy.verify.experiment import Experiment
from compiler.deploy.verify.prompt import LEAST_CHUNKS, prompt_tokens
from compiler.deploy.verify.samples import Probe
from compiler.plan import Plan
from compiler.process import ProcessName
from compiler.topology import Accelerator
from compiler.write.safe_read import read_named

Alive = Mapping[ProcessName, Running]
WISHED_TOKENS = {Accelerator.CUDA: 4096, Accelerator.CPU: 512}
"""A prompt that shows a difference, and that a CPU computes in a second or two."""


def choose(
    plan: Plan, alive: Alive, tokens: int | None, timeout_s: float, own: Ownership
) -> Experiment | Finding:
    """Choose the prompt; a finding where none can prove anything or would hang.

    A worker whose cache server is down waits for it up to LMCache's timeout of minutes.
    """
    if _is_down(plan, alive):
        text = "no prompt was sent: it would wait for what is down"
        return skipped("prompt", plan.name, text)
    chunk, longest = _chunk(plan, alive), _longest(plan)
    length = prompt_tokens(chunk, longest, tokens or WISHED_TOKENS[plan.accelerator])
    if length is None:
        return failed(
            "chunk-size",
            plan.name,
            f"chunks of {chunk} tokens: {LEAST_CHUNKS} do not fit in the longest prompt of "
            f"{longest} tokens, and what is shorter than a chunk is never cached",
            f"lmcache.chunk_size: {plan.lmcache.chunk_multiple} to {longest // LEAST_CHUNKS}, "
            "and no LMCACHE_CHUNK_SIZE at launch",
        )
    probe = Probe(tokens=length, chunk=chunk)
    access = Access(key=_key(plan), own=own)
    return Experiment(plan=plan, access=access, probe=probe, timeout_s=timeout_s)


def _is_down(plan: Plan, alive: Alive) -> bool:
    """Return whether what clients reach, or a cache server, is not there."""
    names = {plan.entry.name, *(server.name for server in plan.cache_servers)}
    return not names <= alive.keys() or None in map(server_status, plan.cache_servers)


def _chunk(plan: Plan, alive: Alive) -> int:
    """Return the chunk size in force: what runs may differ from what was built."""
    for worker in plan.cached_workers:
        server = plan.cache_server_of(worker)
        status = server_status(server) if server else None
        if status and status.chunk_size:
            return status.chunk_size
        environment = alive[worker.name].environment if worker.name in alive else None
        given = (environment or {}).get("LMCACHE_CHUNK_SIZE", "")
        if server is None and given.isdecimal():
            return int(given)
    return plan.lmcache.chunk_size


def _longest(plan: Plan) -> int:
    """Return the most tokens that a prompt may have beside one of the answer."""
    models = get_json(process_url(plan.api, "/v1/models")) or {}
    served = [item.get("max_model_len") for item in models.get("data", ())]
    built = [item.launch.engine_args.get("max_model_len") for item in plan.processes]
    known = [int(value) for value in (*served, *built) if isinstance(value, int) and value]
    return min(known, default=1 << 17) - 1


def _key(plan: Plan) -> str:
    """Read the client's key, where the deployment asks for one."""
    file = plan.api_key_file
    try:
        return read_named(Path(file)).decode("utf-8").strip() if file else ""
    except (OSError, UnicodeDecodeError):
        return ""
