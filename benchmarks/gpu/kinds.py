"""Small models of kinds, and the bundles of the suite `models`: one for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu.sizes import NO_MULTICAST, Bundles, Given, engine

COMMON: Given = {
    "dtype": "bfloat16",
    "vocab_size": 384,
    "initializer_range": 0.15,
    "eos_token_id": 0,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
QWEN3: Given = {**COMMON, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
EXPERTS: Given = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "decoder_sparse_step": 1,
    "norm_topk_prob": True,
    "mlp_only_layers": [],
}
MOE: Given = {
    **COMMON,
    **EXPERTS,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
}
HYBRID: Given = {  # the layers' shapes are Qwen3-Next's, so that its block size is
    **COMMON,
    **EXPERTS,
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "num_attention_heads": 16,
    "head_dim": 256,
    "partial_rotary_factor": 0.25,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "shared_expert_intermediate_size": 128,
    "layer_types": [*["linear_attention"] * 3, "full_attention"],
}
LATENT: Given = {  # the heads' shapes are DeepSeek-V3's, which its kernels want
    **{key: COMMON[key] for key in COMMON if key != "head_dim"},
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "q_lora_rank": 128,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "routed_scaling_factor": 1.0,
    "norm_topk_prob": True,
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
}
WINDOWS: Given = {
    **COMMON,
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 64,
    "sliding_window": 512,
    "layer_types": [*["sliding_attention"] * 3, "full_attention"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A model's config.json, the profile that serves it, and what differs from it.

    given: other keys of the profile; args: of the workers' engines; gpus: of a worker, where it
    takes more than one or not the first. adapters: whether two LoRA adapters go with the model.
    """

    config: Given
    profile: str = "agg"
    given: Given = field(default_factory=dict)
    args: Given = field(default_factory=dict)
    gpus: str = "[0]"
    adapters: bool = False


CACHED: Given = {"enable_prefix_caching": True}
EAGER: Given = {"enforce_eager": True}
KINDS: Mapping[str, Kind] = {
    "kind-hybrid": Kind(
        config=HYBRID,
        given={"lmcache.chunk_size": 544},
        args={
            **CACHED,
            **EAGER,
            "attention_backend": "FLASH_ATTN",
            "gdn_prefill_backend": "triton",  # on Hopper flashinfer else, which is not packed
        },
    ),
    "kind-latent": Kind(
        config=LATENT, args={**EAGER, "attention_backend": "TRITON_MLA"}, gpus="[1]"
    ),
    "kind-experts": Kind(
        config=MOE,
        profile="agg-tp2",
        args={**EAGER, "enable_expert_parallel": True},
        gpus="[0, 1]",
    ),
    "kind-adapters": Kind(config=QWEN3, args=EAGER, gpus="[1]", adapters=True),
    "kind-windows": Kind(config=WINDOWS, args=EAGER),
    "kind-ranks": Kind(config=QWEN3, profile="agg-tp2", gpus="[0, 1]"),
    "kind-replicas": Kind(config=QWEN3, profile="agg-shared-cache", gpus="[0, 1]"),
}
"""One for each; what only a GPU with Hopper's kernels runs is among them."""
REFUSED = {"kind-adapters": "cache-keys"}
"""The rule that refuses a bundle which is built all the same, to see that it answers wrongly."""
ON_CPU = ("kind-latent", "kind-experts", "kind-adapters")
SIZES: Given = {"gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": 1 << 30}
ENV = {"VLLM_SERVER_DEV_MODE": "1"}
"""For /reset_prefix_cache: a hybrid model is cached by LMCache only where its engine caches too."""


def write(folder: Path) -> str:
    """Write the config.json of each into a folder, which dync and the rig read; return it."""
    for name, kind in KINDS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(kind.config, indent=1), "utf-8")
        said = json.dumps({"adapters": kind.adapters})
        (folder / name / "kind.json").write_text(said, "utf-8")
    return str(folder)


def bundles(folder: str) -> Bundles:
    """Return one bundle for each kind; folder: where the models are."""
    return {name: (kind.profile, _given(folder, name, kind)) for name, kind in KINDS.items()}


def rehearsed(folder: str) -> Bundles:
    """Return those that a CPU runs, each with one worker."""
    found = {}
    for name in ON_CPU:
        kind = KINDS[name]
        args = {key: kind.args[key] for key in kind.args if key == "enforce_eager"}
        given = _given(folder, name, kind, args)
        for key in [key for key in given if key.endswith((".gpus", *SIZES))]:
            del given[key]
        found[name] = ("agg-cpu", {**given, "model.max_len": 8192, "lmcache.chunk_size": 256})
    return found


def _given(folder: str, name: str, kind: Kind, args: Given | None = None) -> dict[str, object]:
    mine = {"enable_prefix_caching": False, **(kind.args if args is None else args)}
    if kind.adapters:
        modules = ", ".join(f'"{each}={folder}/{name}/adapter-{each}"' for each in "ab")
        mine |= {"enable_lora": True, "max_loras": 2, "lora_modules": f"[{modules}]"}
    env = NO_MULTICAST | ENV
    return {
        "model.id": f"{folder}/{name}",
        "lmcache.cpu_cache_gb": 2,
        **engine(1, {**SIZES, **mine}, env),
        "workers[0].gpus": kind.gpus,
        **kind.given,
    }
