"""Tell how large a token's KV is, from what a model's config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.byte_units import GIB
from compiler.document import Json
from compiler.model.cache_dtype import own_cache_dtype, value_bytes
from compiler.model.config_json import text_part, whole
from compiler.model.layers import Keeps, KvLayers, Unknown, layer_counts
from compiler.model.states import StateShape, state_shape
from compiler.topology import Accelerator

# Model types whose latent is what vLLM caches: 0.32.0 transformers_utils/
# model_arch_config_convertor.py, is_deepseek_mla.
LATENT_TYPES = frozenset(
    """
    axk1 deepseek_v2 deepseek_v3 deepseek_v32 dots3_note glm_moe_dsa glm4_moe_lite kimi_k2
    kimi_linear pangu_ultra_moe bailing_hybrid hy_v4
    """.split()  # noqa: SIM905 -- as the source lists them
)
_INDEX_BLOCK = 128
"""Values of DSA's index that share a scale of four bytes: models/deepseek_v2.py, Indexer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvShape:
    """What the layers of a model keep.

    layers: of tokens. states: how many layers keep a state, and one of them. cache_dtype: what
    kv_cache_dtype auto means, where the weights say it.
    """

    layers: tuple[KvLayers, ...]
    states: int
    state: StateShape | None
    cache_dtype: str
    max_len: int | None

    def value_bytes(self, engine_args: Mapping[str, Json]) -> int:
        """Return the bytes of a value of a worker's cache.

        Errors: Unknown for a dtype that stores more than its values.
        """
        return value_bytes(engine_args, self.cache_dtype)

    def rank_bytes(self, ranks: int, value: int) -> int:
        """Return the bytes of one token on one rank, in layers that keep every token.

        What a request's windows and states take comes on top, whatever its length. A model all of
        whose layers have a window is counted as if they had none.
        """
        kept = [one for one in self.layers if one.keeps is not Keeps.WINDOW]
        return sum(one.rank_bytes(ranks, value) for one in kept or self.layers)

    @property
    def grows(self) -> bool:
        """Return whether some layer keeps every token of a request."""
        return any(one.keeps is not Keeps.WINDOW for one in self.layers)

    @property
    def is_latent(self) -> bool:
        """Return whether every layer keeps one vector for keys and values."""
        return all(one.is_latent for one in self.layers)


def kv_shape(config: Mapping[str, Json]) -> KvShape:
    """Read a model's config.json.

    Errors: Unknown where it does not say what its layers keep in a form known here.
    Source: vLLM 0.32.0 transformers_utils/model_arch_config_convertor.py, get_head_size.
    """
    text, counts = text_part(config), layer_counts(config)
    states = counts[Keeps.STATE] + counts[Keeps.BOTH]
    found = (
        _attention(text, Keeps.ALL, counts[Keeps.ALL] + counts[Keeps.BOTH]),
        _attention(text, Keeps.WINDOW, counts[Keeps.WINDOW]),
        _index(text),
    )
    layers = tuple(one for one in found if one is not None)
    if not layers:
        raise Unknown("no layer of it keeps KV")
    return KvShape(
        layers=layers,
        states=states,
        state=state_shape(config) if states else None,
        cache_dtype=own_cache_dtype(config),
        max_len=whole(text, "max_position_embeddings"),
    )


def latent_size(text: Mapping[str, Json]) -> int | None:
    """Return the values of a token's latent vector; None where a model has keys and values."""
    rank, kind = whole(text, "kv_lora_rank"), text.get("model_type")
    if rank is None or (kind is not None and kind not in LATENT_TYPES):
        return None
    return rank + (whole(text, "qk_rope_head_dim") or 0)


def kv_heads(text: Mapping[str, Json]) -> int | None:
    """Return how many KV heads a layer has.

    Source: vLLM 0.32.0 model_arch_config_convertor.py, get_total_num_kv_heads.
    """
    heads = whole(text, "num_attention_heads")
    blocks = text.get("block_configs")
    for block in blocks if isinstance(blocks, list) else ():
        inner = block.get("attention") if isinstance(block, dict) else None
        group = whole(inner, "n_heads_in_group") if isinstance(inner, dict) else None
        if group and heads:
            return heads // group
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads")
    return whole(text, *names, "multi_query_group_num", "num_attention_groups") or heads


def head_size(text: Mapping[str, Json]) -> int | None:
    """Return the values of one key."""
    heads = whole(text, "num_attention_heads")
    share = (whole(text, "hidden_size") or 0) // heads if heads else None
    return whole(text, "attention_head_dim", "head_dim") or share or None


def _attention(text: Mapping[str, Json], keeps: Keeps, count: int) -> KvLayers | None:
    """Return equal layers of attention; None where there are none."""
    if not count:
        return None
    latent = latent_size(text)
    if latent:
        return KvLayers(count=count, keeps=keeps, heads=1, size=latent, is_latent=True)
    heads, key, value = _heads(text, keeps)
    if not (heads and key):
        raise Unknown("its config.json does not say how many layers and heads it has")
    return KvLayers(
        count=count, keeps=keeps, heads=heads, size=key + (value or key), is_latent=False
    )


def _heads(text: Mapping[str, Json], keeps: Keeps) -> tuple[int | None, int | None, int | None]:
    """Return KV heads, values of a key and of a value; windows may have their own.

    Source: vLLM 0.32.0 model_executor/models/mimo_v2.py and gemma4.py.
    """
    heads, key = kv_heads(text), head_size(text)
    if str(text.get("model_type")).startswith("mimo_v2"):
        if keeps is Keeps.WINDOW:
            return (
                whole(text, "swa_num_key_value_heads"),
                whole(text, "swa_head_dim"),
                whole(text, "swa_v_head_dim"),
            )
        return heads, key, whole(text, "v_head_dim")
    if keeps is Keeps.ALL and whole(text, "global_head_dim"):  # Gemma 4
        return (
            whole(text, "num_global_key_value_heads") or heads,
            whole(text, "global_head_dim"),
            None,
        )
    return heads, key, None


def _index(text: Mapping[str, Json]) -> KvLayers | None:
    """Return the keys by which DSA chooses tokens: one more cache in each layer that has an index.

    Source: vLLM 0.32.0 model_executor/models/deepseek_v2.py, Indexer (a value a byte, and scales)
            and _skip_topk (layers that share an earlier one's choice).
    """
    dim, layers = whole(text, "index_head_dim"), whole(text, "num_hidden_layers") or 0
    if not whole(text, "index_topk") or dim is None:
        return None
    every, pattern = whole(text, "index_topk_freq") or 1, text.get("index_topk_pattern")
    offset = text.get("index_skip_topk_offset")
    first = offset if isinstance(offset, int) else 2
    own = [max(at - first + 1, 0) % every == 0 for at in range(layers)]
    if isinstance(pattern, str):
        own = [at >= len(pattern) or pattern[at] != "S" for at in range(layers)]
    return KvLayers(
        count=sum(own),
        keeps=Keeps.ALL,
        heads=1,
        size=dim + dim // _INDEX_BLOCK * 4,
        is_latent=True,
        value_bytes=1,
    )


def fixed_room(
    accelerator: Accelerator, env: Mapping[str, str], engine_args: Mapping[str, Json]
) -> int | None:
    """Return the bytes for KV of one rank that the profile itself fixes; None: what the GPU leaves.

    Source: vLLM 0.32.0 platforms/cpu.py: kv_cache_memory_bytes, else VLLM_CPU_KVCACHE_SPACE in GiB.
    """
    given = engine_args.get("kv_cache_memory_bytes")
    if isinstance(given, int):
        return given
    space = env.get("VLLM_CPU_KVCACHE_SPACE", "") if accelerator is Accelerator.CPU else ""
    return int(space) * GIB if space.isdecimal() and int(space) else None


def shape_text(shape: KvShape) -> str:
    """Name the layers of a model and what they keep."""
    parts = [_layers_text(one) for one in shape.layers]
    return "; ".join([*parts, *([f"{shape.states} layers with a state"] if shape.states else [])])


def _layers_text(one: KvLayers) -> str:
    if one.value_bytes:
        return f"{one.count} of them with an index of {one.size} bytes"
    kind = " with a window" if one.keeps is Keeps.WINDOW else ""
    what = (
        f"a latent of {one.size}" if one.is_latent else f"{one.heads} KV heads of {one.size // 2}"
    )
    return f"{one.count} layers{kind}, {what}"
