"""What a model's config.json says, as far as rules depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.document import Json
from compiler.model.config_json import text_part, whole, words
from compiler.model.kv_shape import KvShape, kv_heads, kv_shape, latent_size
from compiler.model.layers import Keeps, Unknown, has_state_keys, layer_kinds

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

    architecture: the first of those that its config.json names; empty where it names none.
    max_len: the longest request that vLLM lets it serve, in tokens. keeps_state: some layers have a
    state (Mamba, linear attention). has_windows: some layers look back a fixed number of tokens,
    and others at all. has_index: layers have a second cache, by which DSA chooses tokens.
    shape: what its layers keep of a token, and their states.
    """

    architecture: str
    attention_heads: int | None
    kv_heads: int | None
    max_len: int | None
    is_latent: bool
    is_encoder_decoder: bool
    keeps_state: bool
    has_windows: bool
    has_index: bool
    shape: KvShape | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """What is known of the model that a profile asks for.

    reason: why nothing, or not all. is_missing: no config.json of it was found. releases: those of
    vLLM, among the ones that were looked at, that have its architecture.
    """

    config: ModelConfig | None
    reason: str = ""
    is_missing: bool = False
    releases: tuple[str, ...] = ()


def found_model(config: Mapping[str, Json]) -> FoundModel:
    """Read a model's config.json, and say what it leaves open."""
    shape, reason = _shape(config)
    return FoundModel(config=_read(config, shape), reason=reason)


def model_config(config: Mapping[str, Json]) -> ModelConfig:
    """Read a model's config.json."""
    return _read(config, _shape(config)[0])


def _shape(config: Mapping[str, Json]) -> tuple[KvShape | None, str]:
    """Return what a model's layers keep, or why that is not known."""
    try:
        return kv_shape(config), ""
    except Unknown as unknown:
        return None, str(unknown)


def _read(config: Mapping[str, Json], shape: KvShape | None) -> ModelConfig:
    text = text_part(config)
    try:
        kinds = set(layer_kinds(config))
        keeps_state = bool(kinds & {Keeps.STATE, Keeps.BOTH})
    except Unknown:
        kinds, keeps_state = set(), has_state_keys(text)
    named = words(config, "architectures") or [""]
    return ModelConfig(
        architecture=named[0],
        attention_heads=whole(text, "num_attention_heads"),
        kv_heads=kv_heads(text),
        max_len=_max_len(text),
        is_latent=latent_size(text) is not None,
        is_encoder_decoder=config.get("is_encoder_decoder") is True,
        keeps_state=keeps_state,
        has_windows={Keeps.WINDOW, Keeps.ALL} <= kinds,
        has_index=whole(text, "index_topk") is not None,
        shape=shape,
    )


def _max_len(text: Mapping[str, Json]) -> int | None:
    """Return the length that vLLM derives; None where it may be scaled in a way not known here."""
    given = whole(text, "model_max_length")
    lengths = [length for key in _LENGTHS if (length := whole(text, key)) is not None]
    if given is not None or not lengths:
        return given
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        return None
    nested = [part for part in rope.values() if isinstance(part, dict)]  # by kinds of layers
    is_scaled = "gemma3" in str(text.get("model_type", "")) or all(map(_leaves, nested or [rope]))
    return min(lengths) if is_scaled else None


def _leaves(rope: Mapping[str, Json]) -> bool:
    """Return whether a RoPE scaling leaves the length as config.json has it."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    return kind in _SCALED or rope.get("factor") is None
