"""What a model's config.json says, as far as rules depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.document import Json
from compiler.model.kv_shape import KvShape, Unknown, kv_shape, text_part, whole

# Kinds of layers in transformers' layer_types and vLLM's layers_block_type that keep a state
# instead of every token's KV, and keys of models that have such layers where these do not say:
# granite-4.0-micro has the keys and no such layer (vLLM 0.32.0 config/model.py, is_hybrid).
_STATE_LAYERS = {"linear_attention", "mamba", "mamba2", "recurrent", "conv", "short_conv", "kda"}
_STATE_KEYS = (
    "ssm_cfg",
    "mamba_d_state",
    "mamba_d_conv",
    "ssm_state_size",
    "hybrid_override_pattern",
    "linear_num_key_heads",
    "linear_attn_config",
)
# Where a length is written; the least counts. vLLM 0.32.0
# transformers_utils/model_arch_config_convertor.py, derive_max_model_len_and_key.
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Kinds of RoPE scaling after which the length is already scaled (config/model.py,
# _get_and_verify_max_len).
_SCALED = {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model: None where its config.json does not say.

    max_len: the longest request that vLLM lets it serve, in tokens. keeps_state: some layers have a
    state (Mamba, linear attention). has_windows: some layers look back a fixed number of tokens,
    and others at all.
    shape: the size of a token's KV; None where not every layer keeps all of it.
    """

    attention_heads: int | None
    kv_heads: int | None
    max_len: int | None
    is_latent: bool
    keeps_state: bool
    has_windows: bool
    shape: KvShape | None


def model_config(config: Mapping[str, Json]) -> ModelConfig:
    """Read a model's config.json."""
    text = text_part(config)
    heads = whole(text, "num_attention_heads")
    kinds = _kinds(text)
    slides = text.get("sliding_window") is not None and text.get("use_sliding_window", True)
    try:
        shape = kv_shape(config)
    except Unknown:
        shape = None
    return ModelConfig(
        attention_heads=heads,
        kv_heads=whole(text, "num_key_value_heads") or heads,
        max_len=_max_len(text),
        is_latent=whole(text, "kv_lora_rank") is not None,
        keeps_state=bool(kinds & _STATE_LAYERS) if kinds else any(map(text.get, _STATE_KEYS)),
        has_windows={"sliding_attention", "full_attention"} <= kinds and bool(slides),
        shape=shape,
    )


def _kinds(text: Mapping[str, Json]) -> set[str]:
    found: set[str] = set()
    for key in ("layer_types", "layers_block_type"):
        kinds = text.get(key)
        if isinstance(kinds, list):
            found.update(map(str, kinds))
    return found


def _max_len(text: Mapping[str, Json]) -> int | None:
    """Return the length that vLLM derives; None where it may be scaled in a way not known here."""
    given = whole(text, "model_max_length")
    lengths = [length for key in _LENGTHS if (length := whole(text, key)) is not None]
    if given is not None or not lengths:
        return given
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if not isinstance(rope, dict) or any(isinstance(part, dict) for part in rope.values()):
        return None
    kind = rope.get("rope_type", rope.get("type", "default"))
    is_scaled = kind in {"default", *_SCALED} or "gemma3" in str(text.get("model_type", ""))
    return min(lengths) if is_scaled else None
