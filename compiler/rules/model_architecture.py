"""The model's architecture is one that the stack's vLLM has.

Without it vLLM takes transformers' own code for the model, where that release of transformers has
it, or ends before it loads anything.

Accepted:
    name: architecture
    stack: vllm-0.32
    topology: agg
    model: {id: zai-org/GLM-4.7-Flash}
    workers: [{role: aggregated, gpus: [0]}]

Reported:
    name: architecture
    stack: dynamo-0.7
    topology: agg
    model: {id: zai-org/GLM-4.7-Flash}
    lmcache: {enabled: false}
    workers: [{role: aggregated, gpus: [0]}]

Source: each release's model_executor/models/registry.py, read into schemas/architectures.json.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import FoundModel
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "model-architecture",
    Severity.WARNING,
    "without it vLLM takes transformers' own code for the model, or ends before it loads anything",
)


def check(topology: Topology, stack: Stack, found: FoundModel) -> Iterator[Diagnostic]:
    """Report an architecture that other releases have and this one has not."""
    release = stack.versions["vllm"]
    if found.config is None or not found.releases or release in found.releases:
        return
    yield RULE.at(
        topology.model.origin.of("id"),
        f"vLLM {release} has no {found.config.architecture}, which {topology.model.id} is",
        fix=f"write a stack with vLLM {' or '.join(found.releases)}",
    )
