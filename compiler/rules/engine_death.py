"""An API server ends when its engine is dead.

Kept alive, it answers every request with an error, and neither systemd nor launch.sh sees a process
to start again.

Accepted:
    name: death
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_KEEP_ALIVE_ON_ENGINE_DEATH: 0}}]

Rejected:
    name: death
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_KEEP_ALIVE_ON_ENGINE_DEATH: 1}}]

Source: vLLM 0.32.0 entrypoints/launchers/launcher.py, terminate_if_errored; vllm/envs.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.topology import Topology

RULE = Rule(
    "engine-death",
    Severity.ERROR,
    "a dead engine is started again only when its API server ends too",
)
_NAME = "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report each worker that outlives its engine."""
    for group in topology.workers:
        if group.env.get(_NAME, "0") != "0":
            yield RULE.at(
                group.origin.of("env", _NAME),
                "the API server would outlive its engine",
                fix=f"remove {_NAME}",
            )
