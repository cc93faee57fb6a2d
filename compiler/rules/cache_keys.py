"""LMCache's keys tell apart all KV that a worker computes.

LMCache finds KV by a prompt's tokens, what a request gives as cache_salt (in a server alone) and
the hashes of its images. An adapter (LoRA) computes other KV from the same tokens, and embeddings
in the place of tokens count as zeros: the next request with the same tokens, of another adapter, of
the model itself or with other embeddings, is given KV that is not its own. Hits are counted, every
health check is green, and the answer is wrong. One adapter is as wrong as two, since the model
itself can always be asked. The engine's own prefix cache has all of it in its keys, and NIXL moves
what belongs to one request.

Accepted:
    name: keys
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {enabled: false}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enable_lora: true, lora_modules: ["sql=/srv/adapters/sql"]}

Rejected:
    name: keys
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enable_lora: true, lora_modules: ["sql=/srv/adapters/sql"]}

Source: lmcache 0.5.6 integration/vllm/lmcache_mp_metadata.py, LMCacheMPRequestTracker, and
vllm_v1_adapter.py, where no key of 0.3.7 to 0.5.6 has an adapter; vLLM 0.11.0 to 0.32.0
v1/request.py, _all_token_ids, against v1/core/kv_cache_utils.py, generate_block_hash_extra_keys.
Run on an H100 and on a CPU: an adapter asked after another was wrong by 2.4 to 3.9 in
log-probability.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.topology import Topology

RULE = Rule("cache-keys", Severity.ERROR)
_OPTIONS = {
    "enable_lora": (
        "adapters get the KV that another one, or the model itself, has left of the same tokens",
        "LMCache keys KV by tokens and images, and knows no adapter",
        "serve each adapter merged into its weights, as a deployment of its own",
    ),
    "enable_prompt_embeds": (
        "prompts given as embeddings get the KV of any other of their length",
        "LMCache keys KV by tokens, and those of embeddings are all zero",
        "remove enable_prompt_embeds, or serve it by a deployment of its own",
    ),
}
"""What goes wrong, why, and what to do where LMCache is to stay."""


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report each worker whose KV goes to LMCache under keys that do not tell it apart."""
    for name, (message, why, otherwise) in _OPTIONS.items():
        cached = topology.caching
        wrong = [group for group in cached if group.engine_args.get(name) is True]
        rest = len(wrong) < len(cached)
        off = "lmcache: false for these workers" if rest else "lmcache.enabled: false"
        for group in wrong:
            yield RULE.at(
                group.origin.of("engine_args", name),
                f"beside LMCache, {message}",
                fix=f"write {off}; or {otherwise}",
                why=why,
            )
