"""LMCache in process is asked for nothing that needs a part which nobody starts.

CacheBlend needs the engine's model, which no release of vLLM hands to LMCache: the worker dies at
its first prompt. LMCache's own prefill and decode need its proxy and its receivers, where a profile
has NIXL and a router. Sharing between workers (P2P) and the controller need a controller, and ports
of each worker's own, which a variable of several workers is not.

Accepted:
    name: parts
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-8B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enforce_eager: true}
        env:
          LMCACHE_ENABLE_CONTROLLER: "true"
          LMCACHE_CONTROLLER_PULL_URL: "10.0.0.5:8300"
          LMCACHE_CONTROLLER_REPLY_URL: "10.0.0.5:8400"
          LMCACHE_LMCACHE_WORKER_PORTS: "8600"

Rejected:
    name: parts
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-8B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enforce_eager: true}
        env: {LMCACHE_ENABLE_BLENDING: "true"}

Source: LMCache#4131; lmcache 0.3.7 to 0.5.3 v1/compute/models/utils.py, register_model, which
nothing calls, and v1/config.py, enable_pd, enable_p2p, enable_controller and
lmcache_worker_ports; docs of LMCache 0.5.3, disaggregated prefill and P2P KV cache sharing.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity, Span
from compiler.stacks.lmcache_keys import lmcache_keys, unquoted, variable
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology, WorkerGroup

RULE = Rule("lmcache-parts", Severity.ERROR)
_UNSTARTED = {
    "enable_blending": (
        "no release of vLLM hands its model to LMCache, which then ends at the first prompt",
        "remove it",
    ),
    "enable_pd": (
        "nobody starts LMCache's own proxy and receivers: the first prompt waits for them",
        "remove it; topology: disagg has prefill and decode workers, which NIXL connects",
    ),
}
"""What no deployment of dync's has: why it fails, and what to write."""
_PORTS = ("lmcache_worker_ports", "p2p_init_ports", "p2p_lookup_ports")


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report parts that nobody starts, and ports that several workers are given."""
    if topology.lmcache.mode is not CacheMode.IN_PROCESS:
        return
    known = lmcache_keys(stack).options
    groups = topology.caching
    for group in groups:
        for key, (why, fix) in _UNSTARTED.items():
            name = variable(key)
            is_on = unquoted(group.env.get(name, "")).lower() in ("true", "1")
            if is_on and name in known:
                span = group.origin.of("env", name)
                yield RULE.at(
                    span, f"{name} is on, and nobody starts what it needs", fix=fix, why=why
                )
    for key in _PORTS:
        yield from _ports(groups, variable(key))


def _ports(groups: list[WorkerGroup], name: str) -> Iterator[Diagnostic]:
    """Report ports that replicas, or a group before, are given too."""
    earlier: dict[str, Span] = {}
    for group in groups:
        span = group.origin.of("env", name)
        given = unquoted(group.env.get(name, ""))
        ports = [word.strip() for word in given.split(",") if word.strip()]
        others = dict.fromkeys(earlier[port] for port in ports if port in earlier)
        if others or (ports and group.replicas > 1):
            yield RULE.at(
                span,
                f"{name} gives {', '.join(ports)} to several workers",
                fix="write a group of one worker for each, with ports of its own",
                related=tuple(Label(span=other, text="and here") for other in others),
                why="processes of one host cannot listen at one port",
            )
        earlier.update(dict.fromkeys(ports, span))
