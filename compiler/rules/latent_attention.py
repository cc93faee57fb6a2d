"""A model with latent attention has its chunks sent to a remote store as they are.

LMCache's serializers that compress keys and values do not know a latent vector.

Accepted:
    name: latent
    stack: vllm-0.25
    topology: agg
    model: {id: deepseek-ai/DeepSeek-V3}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enforce_eager: true}
        env: {LMCACHE_REMOTE_URL: "redis://10.0.0.5:6379", LMCACHE_REMOTE_SERDE: naive}

Rejected:
    name: latent
    stack: vllm-0.25
    topology: agg
    model: {id: deepseek-ai/DeepSeek-V3}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enforce_eager: true}
        env: {LMCACHE_REMOTE_URL: "redis://10.0.0.5:6379", LMCACHE_REMOTE_SERDE: cachegen}

Source: lmcache 0.5.3 and 0.5.6 integration/vllm/utils.py, validate_mla_config: "MLA only works with
naive serde mode.."; kv_lora_rank in the model's config.json.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.stacks.lmcache_keys import unquoted
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology

RULE = Rule(
    "latent-attention",
    Severity.ERROR,
    "LMCache's other serializers split keys from values, and a latent vector is both",
)
_NAME = "LMCACHE_REMOTE_SERDE"


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:  # noqa: ARG001
    """Report a serializer that LMCache refuses for such a model."""
    if model is None or not model.is_latent or topology.lmcache.mode is not CacheMode.IN_PROCESS:
        return
    for group in topology.workers:
        serde = unquoted(group.env.get(_NAME, "naive"))
        if topology.uses_lmcache(group) and serde != "naive":
            yield RULE.at(
                group.origin.of("env", _NAME),
                f"{_NAME}={serde} does not work with the latent attention of {topology.model.id}",
                fix=f"write {_NAME}: naive",
            )
