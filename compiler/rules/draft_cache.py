"""A draft model beside LMCache in process has no KV of its own that nobody counted.

LMCache in process makes room for the layers of the model and of a head that shares its hidden
states (EAGLE, MTP). A draft model's own layers are more caches than that, and the engine dies after
it has loaded both. A cache server takes what there is, in groups.

Accepted:
    name: draft
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-8B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {speculative_config: {method: ngram, num_speculative_tokens: 3}}

Rejected:
    name: draft
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-8B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args:
          speculative_config:
            {method: draft_model, model: Qwen/Qwen3-0.6B, num_speculative_tokens: 3}

Source: lmcache 0.5.3 integration/vllm/utils.py, calculate_draft_layers, and v1/gpu_connector/
gpu_connectors.py, _initialize_pointers; 0.4.1 v1/manager.py, _calculate_draft_layers; vLLM 0.16.0
to 0.25.1 config/speculative.py, use_eagle, and method, draft_model where a model is given alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.document import Json
from compiler.topology import CacheMode, Topology

RULE = Rule(
    "draft-cache",
    Severity.ERROR,
    "LMCache in process makes room for the model's layers and a head's, and gets a draft's too",
)
_HEADS = ("eagle", "mtp", "dflash")
"""What vLLM tells by a draft's name, where no method is given, to be a head."""


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report each worker that caches in process and has a draft model."""
    if topology.lmcache.mode is not CacheMode.IN_PROCESS:
        return
    for group in topology.workers:
        given = group.engine_args.get("speculative_config")
        if topology.uses_lmcache(group) and isinstance(given, dict) and _is_draft(given):
            yield RULE.at(
                group.origin.of("engine_args", "speculative_config"),
                f"LMCache in process has no room for the KV of the draft {given.get('model')}",
                fix="write another method, such as ngram or eagle3 with its head, "
                "or lmcache.mode: multiprocess, on a stack that has it",
            )


def _is_draft(given: dict[str, Json]) -> bool:
    method, model = given.get("method"), str(given.get("model") or "ngram").lower()
    if method is not None:
        return method == "draft_model"
    return model not in ("ngram", "[ngram]") and not any(name in model for name in _HEADS)
