"""Tell how large a token's KV is, from what a model's config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.byte_units import GIB
from compiler.document import Json
from compiler.topology import Accelerator, CacheMode

_DTYPE_BYTES = {"auto": 2, "half": 2, "float16": 2, "bfloat16": 2, "float": 4, "float32": 4}
_CACHE_BYTES = {"bfloat16": 2, "float16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1}


class Unknown(Exception):
    """The size cannot be told; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvShape:
    """What every layer keeps of a token: heads x head_size values, for K and for V each.

    is_latent: one vector for both, the same on every rank (multi-head latent attention).
    """

    layers: int
    heads: int
    head_size: int
    is_latent: bool
    max_len: int | None

    def rank_bytes(self, ranks: int, value_bytes: int) -> int:
        """Return the bytes of one token on one of the tensor-parallel ranks.

        Source: vLLM 0.32.0 config/model.py, get_num_kv_heads: heads are repeated where there are
                fewer than ranks; v1/kv_cache_interface.py, MLAAttentionSpec: one latent vector.
        """
        if self.is_latent:
            return self.layers * self.head_size * value_bytes
        return self.layers * 2 * max(1, self.heads // ranks) * self.head_size * value_bytes


def kv_shape(config: Mapping[str, Json]) -> KvShape:
    """Read a model's config.json.

    Errors: Unknown where layers differ in kind, or a key is missing.
    Source: vLLM 0.32.0 transformers_utils/model_arch_config_convertor.py, get_head_size.
    """
    text = text_part(config)
    kinds = text.get("layer_types")
    slides = text.get("sliding_window") is not None and text.get("use_sliding_window", True)
    is_mixed = isinstance(kinds, list) and set(map(str, kinds)) != {"full_attention"}
    if is_mixed or slides or "ssm_cfg" in text or "hybrid_override_pattern" in text:
        raise Unknown("its layers are not all full attention")
    latent = whole(text, "kv_lora_rank")
    if latent:
        size = latent + (whole(text, "qk_rope_head_dim") or 0)
    else:
        size = whole(text, "head_dim") or _share(text)
    attention_heads = whole(text, "num_attention_heads")
    heads = 1 if latent else whole(text, "num_key_value_heads") or attention_heads
    layers = whole(text, "num_hidden_layers")
    if not (layers and heads and size):
        raise Unknown("its config.json does not say how many layers and heads it has")
    return KvShape(
        layers=layers,
        heads=heads,
        head_size=size,
        is_latent=bool(latent),
        max_len=whole(text, "max_position_embeddings"),
    )


def cached_bytes(shape: KvShape, ranks: int, value: int, mode: CacheMode) -> int:
    """Return what one cache keeps of one token.

    Shape:  in process each rank keeps its own part in memory of its own; a server keeps the parts
            of all ranks, and a latent vector, which all ranks have alike, once.
    Source: lmcache 0.5.6 integration/vllm/vllm_multi_process_adapter.py, kv_world_size.
    """
    one = shape.rank_bytes(ranks, value)
    return one if mode is CacheMode.IN_PROCESS or shape.is_latent else one * ranks


def value_bytes(engine_args: Mapping[str, Json]) -> int:
    """Return the bytes of one value of a worker's KV cache.

    Errors: Unknown for a cache dtype that stores more than its values.
    Source: vLLM 0.32.0 config/cache.py, cache_dtype; config/model.py, dtype: auto is 16 bits, for
            models in 32 bits too.
    """
    asked = str(engine_args.get("kv_cache_dtype", "auto"))
    dtype = str(engine_args.get("dtype", "auto"))
    found = _DTYPE_BYTES.get(dtype) if asked == "auto" else _CACHE_BYTES.get(asked)
    if found is None:
        raise Unknown(f"the size of kv_cache_dtype {asked} with dtype {dtype} is not known")
    return found


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


def _share(text: Mapping[str, Json]) -> int:
    """Return the part of the hidden size that each attention head has."""
    heads = whole(text, "num_attention_heads")
    return (whole(text, "hidden_size") or 0) // heads if heads else 0


def text_part(config: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the part of a config.json that is about text: that of a larger model, or all of it."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def whole(text: Mapping[str, Json], key: str) -> int | None:
    """Return a count of a config.json; None where it is missing, or none."""
    value = text.get(key)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count and isinstance(value, int) else None
