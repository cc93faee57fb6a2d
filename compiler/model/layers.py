"""Tell what each layer of a model keeps of the tokens it has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from compiler.document import Json
from compiler.model.config_json import numbers, text_part, whole, words


class Unknown(Exception):
    """What is asked cannot be told; the text says why."""


class Keeps(str, Enum):
    """What a layer keeps: every token's KV, a window of it, one state, or nothing."""

    ALL = "full"
    WINDOW = "window"
    STATE = "state"
    BOTH = "full, with a state beside it"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class KvLayers:
    """Equal layers: heads x size values of a token, for K and V together.

    is_latent: one vector for both, the same on every rank (multi-head latent attention).
    value_bytes: of each value where it is not the cache's own dtype (DSA's index of keys).
    """

    count: int
    keeps: Keeps
    heads: int
    size: int
    is_latent: bool
    value_bytes: int | None = None

    def rank_bytes(self, ranks: int, value_bytes: int) -> int:
        """Return the bytes of one token on one of the tensor-parallel ranks.

        Source: vLLM 0.32.0 config/model.py, get_num_kv_heads: heads are repeated where there are
                fewer than ranks; v1/kv_cache_interface.py, AttentionSpec and MLAAttentionSpec.
        """
        heads = 1 if self.is_latent else max(1, self.heads // ranks)
        return self.count * heads * self.size * (self.value_bytes or value_bytes)


_WORDS = {
    "full_attention": Keeps.ALL,
    "attention": Keeps.ALL,
    "global": Keeps.ALL,
    "deepseek_sparse_attention": Keeps.ALL,
    "sliding_attention": Keeps.WINDOW,
    "local": Keeps.WINDOW,
    # vLLM keeps every token of such layers: 0.32.0 config/vllm.py, attention_chunk_size.
    "chunked_attention": Keeps.ALL,
    "linear_attention": Keeps.STATE,
    "recurrent": Keeps.STATE,
    "mamba": Keeps.STATE,
    "mamba2": Keeps.STATE,
    "conv": Keeps.STATE,
    "short_conv": Keeps.STATE,
    "kda": Keeps.STATE,
    "mlp": Keeps.NOTHING,
    "moe": Keeps.NOTHING,
}
_LETTERS = {"M": Keeps.STATE, "*": Keeps.ALL, "-": Keeps.NOTHING, "E": Keeps.NOTHING}
"""Of Nemotron-H's hybrid_override_pattern: vLLM 0.32.0 model_executor/models/nemotron_h.py."""
_MOST_LAYERS = 10_000
_EVERY_SIXTH = ("gemma3", "gemma3_text")
_EVERY_SECOND = ("gemma2",)
# Every layer has attention and Mamba side by side: model_executor/models/falcon_h1.py.
_SIDE_BY_SIDE = ("falcon_h1",)
# Families whose caches no key of config.json gives in a way that is known here.
_OTHER = {
    "compress_ratios": "its layers compress tokens",
    "sparse_attention_config": "its sparse attention has caches of its own",
}
_OTHER_TYPES = ("longcat_flash", "zamba2", "qwen4_exp", "inkling", "phimoe_hybrid", "glm5_next")


def layer_kinds(config: Mapping[str, Json]) -> tuple[Keeps, ...]:
    """Return what each layer keeps, in their order.

    Errors: Unknown where config.json does not say it in a form known here.
    """
    text = text_part(config)
    for key, reason in _OTHER.items():
        if text.get(key):
            raise Unknown(reason)
    if text.get("model_type") in _OTHER_TYPES:
        raise Unknown(f"the layers of model type {text['model_type']} are not known")
    layers = whole(text, "num_hidden_layers") or 0
    if layers > _MOST_LAYERS:
        raise Unknown(f"its config.json says that it has {layers} layers")
    kinds = _stated(text, layers) or _by_count(text, layers)
    shared = whole(text, "num_kv_shared_layers") or 0
    # The last layers take the KV of an earlier one: Gemma 3n and 4.
    return (*kinds[: len(kinds) - shared], *([Keeps.NOTHING] * min(shared, len(kinds))))


def _stated(text: Mapping[str, Json], layers: int) -> list[Keeps]:
    """Return the kinds that config.json lists layer by layer; nothing where it does not."""
    listed = words(text, "layer_types") or words(text, "layers_block_type")
    if listed:
        if text.get("model_type") in _SIDE_BY_SIDE:
            return [Keeps.BOTH] * layers
        unknown = sorted({word for word in listed if word not in _WORDS})
        if unknown:
            raise Unknown(f"layers of the kind {unknown[0]} are not known")
        kinds = [_WORDS[word] for word in listed]
        return kinds if _slides(text) else [_unwindowed(kind) for kind in kinds]
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        if set(pattern) - set(_LETTERS):
            raise Unknown(f"the layers {pattern} are not known")
        return [_LETTERS[letter] for letter in pattern]
    windows = text.get("hybrid_layer_pattern")
    if isinstance(windows, list):
        return [Keeps.WINDOW if item else Keeps.ALL for item in windows]
    blocks = text.get("block_configs")
    if isinstance(blocks, list):
        return [_of_block(block) for block in blocks]
    linear = text.get("linear_attn_config")
    if isinstance(linear, dict):
        full = set(numbers(linear, "full_attn_layers"))  # counted from 1
        return [Keeps.ALL if at + 1 in full else Keeps.STATE for at in range(layers)]
    return []


def _by_count(text: Mapping[str, Json], layers: int) -> list[Keeps]:
    """Return the kinds that follow from a rule of config.json, such as each fourth layer."""
    kind = str(text.get("model_type"))
    full: set[int] | None = None
    interval, period = whole(text, "full_attention_interval"), whole(text, "attn_layer_period")
    if kind in _SIDE_BY_SIDE:
        return [Keeps.BOTH] * layers
    if interval:
        full = set(range(interval - 1, layers, interval))
    elif period:
        full = set(range(whole(text, "attn_layer_offset") or 0, layers, period))
    elif numbers(text, "attn_layer_indices") or numbers(text, "full_attn_idxs"):
        full = {*numbers(text, "attn_layer_indices"), *numbers(text, "full_attn_idxs")}
    elif numbers(text, "attn_type_list"):
        full = {at for at, is_full in enumerate(numbers(text, "attn_type_list")) if is_full}
    if full is not None:
        return [Keeps.ALL if at in full else Keeps.STATE for at in range(layers)]
    if has_state_keys(text):
        raise Unknown("its config.json does not say which layers have a state")
    return _windowed(text, layers, kind)


def _windowed(text: Mapping[str, Json], layers: int, kind: str) -> list[Keeps]:
    """Return layers of attention alone, some of which may have a window."""
    if not _slides(text):
        return [Keeps.ALL] * layers
    every = whole(text, "sliding_window_pattern") or 0
    every = every or (6 if kind in _EVERY_SIXTH else 2 if kind in _EVERY_SECOND else 0)
    if every:
        return [Keeps.WINDOW if (at + 1) % every else Keeps.ALL for at in range(layers)]
    first = whole(text, "max_window_layers") or 0 if text.get("use_sliding_window") else 0
    return [Keeps.WINDOW if at >= first else Keeps.ALL for at in range(layers)]


# Keys of models that have layers with a state, unless their list of layers says otherwise:
# granite-4.0-micro has the keys and no such layer (vLLM 0.32.0 config/model.py, is_hybrid).
_STATE_KEYS = (
    "ssm_cfg",
    "mamba_d_state",
    "mamba_d_conv",
    "ssm_state_size",
    "hybrid_override_pattern",
    "linear_num_key_heads",
    "linear_attn_config",
    "conv_L_cache",
)


def has_state_keys(text: Mapping[str, Json]) -> bool:
    """Return whether config.json has keys of models some of whose layers keep a state."""
    return any(map(text.get, _STATE_KEYS))


def _slides(text: Mapping[str, Json]) -> bool:
    """Return whether config.json's windows count."""
    return bool(text.get("sliding_window")) and bool(text.get("use_sliding_window", True))


def _unwindowed(kind: Keeps) -> Keeps:
    return Keeps.ALL if kind is Keeps.WINDOW else kind


def _of_block(block: Json) -> Keeps:
    attention = block.get("attention") if isinstance(block, dict) else None
    is_none = isinstance(attention, dict) and any(
        attention.get(key) for key in ("no_op", "replace_with_linear")
    )
    return Keeps.NOTHING if is_none else Keeps.ALL


def layer_counts(config: Mapping[str, Json]) -> Counter[Keeps]:
    """Return how many layers there are of each kind.

    Errors: Unknown, also where config.json names more layers than it has, or fewer.
    """
    kinds = layer_kinds(config)
    layers = whole(text_part(config), "num_hidden_layers")
    if not kinds:
        raise Unknown("its config.json does not say how many layers and heads it has")
    if layers is not None and len(kinds) != layers:
        raise Unknown(f"its config.json names {len(kinds)} layers of {layers}")
    return Counter(kinds)
