"""What rules need of a model is known, or it is said which of them were not applied.

Accepted:
    name: known
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0]}]

Reported:
    name: unknown
    stack: vllm-0.32
    topology: agg
    model: {id: somebody/some-model}
    workers: [{role: aggregated, gpus: [0]}]

Source: a model's config.json is read in a local folder, where Hugging Face's library keeps what it
has downloaded (HF_HUB_CACHE, HF_HOME), and in schemas/models.json.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import FoundModel
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "model-unknown",
    Severity.INFO,
    "what depends on the model is checked as far as its config.json is known",
)
OF_SIZES = (
    "batch-of-several-blocks",
    "batch-smaller-than-block",
    "cache-smaller-than-chunk",
    "chunk-of-several-blocks",
    "chunk-size-advice",
    "kv-smaller-than-request",
)
"""Rules that need the sizes of a model's layers."""
OF_MODELS = (
    *OF_SIZES,
    "context-parallel",
    "hybrid-model",
    "index-cache",
    "latent-attention",
    "model-limits",
    "split-blocks",
)
"""Rules that say nothing, or less, of a model that is not known."""


def check(topology: Topology, stack: Stack, found: FoundModel) -> Iterator[Diagnostic]:  # noqa: ARG001
    """Report once what is not known of the model, with the rules that depend on it."""
    if not found.reason:
        return
    id_ = topology.model.id
    fix = "nothing to do: what does not fit it, the engine says when it has loaded it"
    if found.is_missing:
        fix = f"download it first (hf download {id_}), so that its config.json is read"
    names = OF_MODELS if found.config is None else OF_SIZES
    yield RULE.at(
        topology.model.origin.of("id"),
        f"{id_}: {found.reason}; not checked: {', '.join(sorted(names))}",
        fix=fix,
    )
