"""Small models of kinds, and the bundles of the suite `models`: one for each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
STATES: Given = {  # Granite 4's: Mamba-2 beside attention
    **COMMON,
    **EXPERTS,
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "model_type": "granitemoehybrid",
    "num_local_experts": 8,
    "shared_intermediate_size": 128,
    "mamba_n_groups": 1,
    "mamba_n_heads": 8,
    "mamba_d_conv": 4,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_expand": 2,
    "position_embedding_type": "rope",
    "layer_types": [*["mamba"] * 3, "attention"],
}
CONVOLUTIONS: Given = {
    **COMMON,
    "architectures": ["Lfm2ForCausalLM"],
    "model_type": "lfm2",
    "conv_L_cache": 3,
    "conv_dim": 256,
    "block_dim": 256,
    "block_ff_dim": 512,
    "block_multiple_of": 256,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "layer_types": ["conv", "full_attention"] * 2,
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
    takes more than one or not the first. adapters: whether two LoRA adapters go with the
    model; prompts: asked, by their tokens.
    """

    config: Given
    profile: str = "agg"
    given: Given = field(default_factory=dict)
    args: Given = field(default_factory=dict)
    gpus: str = "[0]"
    adapters: bool = False
    prompts: Sequence[int] = (600, 1100, 3000, 6000)

    @property
    def keeps(self) -> bool:
        """Return whether the engine's own cache is what is asked for."""
        return self.given.get("lmcache.enabled") is False

    @property
    def workers(self) -> int:
        """Return how many there are."""
        return 2 if self.profile.startswith("disagg") else 1


CACHED: Given = {"enable_prefix_caching": True}
EAGER: Given = {"enforce_eager": True}
OF_STATES: Given = {**CACHED, **EAGER, "attention_backend": "FLASH_ATTN"}
OF_GDN: Given = {
    **OF_STATES,
    "gdn_prefill_backend": "triton",  # on Hopper flashinfer else, which is not packed
}
OF_LATENT: Given = {**EAGER, "attention_backend": "TRITON_MLA"}
PAIR: Given = {"lmcache.mode": "multiprocess"}
WITHOUT: Given = {"lmcache.enabled": False}
OFTEN = (600, 1100, 2816, 2817, 3000, 3001, 3002, 6000)
"""2,816 are whole chunks of 256."""
KINDS: Mapping[str, Kind] = {
    "kind-hybrid": Kind(config=HYBRID, given={"lmcache.chunk_size": 544}, args=OF_GDN),
    "kind-hybrid-steps": Kind(
        config=HYBRID,
        given={"lmcache.chunk_size": 544},
        args={**OF_GDN, "max_num_batched_tokens": 544},
    ),
    "kind-hybrid-together": Kind(config=HYBRID, given={"lmcache.chunk_size": 544}, args=OF_GDN),
    "kind-hybrid-fp8": Kind(
        config=HYBRID,
        given={"lmcache.chunk_size": 1072},
        args={**OF_GDN, "kv_cache_dtype": "fp8"},
    ),
    "kind-hybrid-pair": Kind(
        config=HYBRID,
        profile="disagg-one-gpu",
        given={**PAIR, "lmcache.chunk_size": 576},  # of blocks of 64, which the profile asks for
        args=OF_GDN,
    ),
    "kind-states": Kind(config=STATES, given={"lmcache.chunk_size": 272}, args=OF_STATES),
    "kind-states-own": Kind(config=STATES, given=WITHOUT, args=OF_STATES),
    "kind-states-steps": Kind(  # of one block each, so that each has a state
        config=STATES,
        given={"lmcache.chunk_size": 272},
        args={**OF_STATES, "max_num_batched_tokens": 272},
    ),
    "kind-states-together": Kind(config=STATES, given={"lmcache.chunk_size": 272}, args=OF_STATES),
    "kind-convolutions": Kind(config=CONVOLUTIONS, args={**OF_STATES, "block_size": 256}),
    "kind-convolutions-wide": Kind(config=CONVOLUTIONS, args=OF_STATES),
    "kind-hybrid-wide": Kind(config=HYBRID, given={"lmcache.chunk_size": 1088}, args=OF_GDN),
    "kind-latent": Kind(config=LATENT, args=OF_LATENT, prompts=OFTEN),
    "kind-latent-own": Kind(
        config=LATENT, given=WITHOUT, args={**OF_LATENT, **CACHED}, prompts=OFTEN
    ),
    "kind-latent-own-256": Kind(  # it computes what is computed beside chunks of 256
        config=LATENT,
        given=WITHOUT,
        args={**OF_LATENT, **CACHED, "block_size": 256},
        prompts=OFTEN,
    ),
    "kind-latent-pair": Kind(
        config=LATENT, profile="disagg-one-gpu", given=PAIR, args=OF_LATENT, prompts=OFTEN
    ),
    "kind-experts": Kind(
        config=MOE,
        profile="agg-tp2",
        args={**EAGER, "enable_expert_parallel": True},
        gpus="[0, 1]",
    ),
    "kind-adapters": Kind(config=QWEN3, args=EAGER, adapters=True),
    "kind-adapters-own": Kind(config=QWEN3, given=WITHOUT, args={**EAGER, **CACHED}, adapters=True),
    "kind-adapters-pair": Kind(
        config=QWEN3, profile="disagg-one-gpu", given=WITHOUT, args=EAGER, adapters=True
    ),
    "kind-windows": Kind(config=WINDOWS, args=EAGER),
    "kind-windows-together": Kind(config=WINDOWS, args=EAGER),
    "kind-windows-pair": Kind(config=WINDOWS, profile="disagg-one-gpu", given=PAIR, args=EAGER),
    "kind-ranks": Kind(config=QWEN3, profile="agg-tp2", gpus="[0, 1]"),
    "kind-replicas": Kind(config=QWEN3, profile="agg-shared-cache", gpus="[0, 1]"),
}
"""One for each; what only a GPU with Hopper's kernels runs is among them."""
REFUSED = {
    "kind-adapters": "cache-keys",
    "kind-hybrid-wide": "chunk-of-several-blocks",
    "kind-convolutions-wide": "chunk-of-several-blocks",
}
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
    workers = range(kind.workers)
    return {
        "model.id": f"{folder}/{name}",
        "lmcache.cpu_cache_gb": 2,
        **engine(kind.workers, {**SIZES, **mine}, NO_MULTICAST | ENV),
        **{f"workers[{index}].gpus": kind.gpus for index in workers},
        **kind.given,
    }
