"""Tell how many bytes a value of a worker's cache takes, and of a model's own numbers."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.document import Json
from compiler.model.config_json import quantization, text_part
from compiler.model.layers import Unknown
from compiler.model.states import DTYPE_BYTES

_CACHE_BYTES = {"bfloat16": 2, "float16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1}
_AUTO = "auto"


def own_cache_dtype(config: Mapping[str, Json]) -> str:
    """Return what kv_cache_dtype auto means for a model.

    Weights quantized by ModelOpt or llm-compressor may say that the cache is 8 bits wide.
    Source: vLLM 0.32.0 utils/torch_utils.py, get_kv_cache_quant_algo_string; model_executor/layers/
            attention/attention.py, kv_cache_scheme.
    """
    said = quantization(config)
    inner, producer = said.get("quantization"), said.get("producer")
    made_by = producer.get("name") if isinstance(producer, dict) else None
    method = str(said.get("quant_method") or made_by or "")
    places = (inner if isinstance(inner, dict) else said, said)
    found = next(
        (
            place[key]
            for key in ("kv_cache_scheme", "kv_cache_quant_algo")
            for place in places
            if place.get(key)
        ),
        None,
    )
    if method == "compressed-tensors":
        return "fp8" if said.get("kv_cache_scheme") else _AUTO
    if not method.startswith("modelopt") or found is None:
        return _AUTO
    if isinstance(found, dict):
        is_byte = (found.get("num_bits"), found.get("type")) == (8, "float")
        if is_byte and found.get("dynamic") is False:
            return "fp8"
        return "nvfp4" if found.get("num_bits") == 4 else _AUTO
    word = str(found).lower()
    return {"fp8": "fp8", "nvfp4": "nvfp4"}.get(word, _AUTO)


def model_dtype(config: Mapping[str, Json]) -> str:
    """Return the dtype that a model's config.json names; auto where it names none."""
    for part in (config, text_part(config)):
        found = part.get("dtype", part.get("torch_dtype"))
        if isinstance(found, str):
            return found
    return _AUTO


def dtype_bytes(engine_args: Mapping[str, Json]) -> int:
    """Return the bytes of a value that is not quantized.

    Errors: Unknown for a dtype that is not known here.
    Source: vLLM 0.32.0 config/model.py, dtype: auto is 16 bits, for models in 32 bits too.
    """
    asked = str(engine_args.get("dtype", _AUTO))
    found = 2 if asked == _AUTO else DTYPE_BYTES.get(asked)
    if found is None:
        raise Unknown(f"the size of dtype {asked} is not known")
    return found


def value_bytes(engine_args: Mapping[str, Json], own: str = _AUTO) -> int:
    """Return the bytes of one value of a worker's KV cache; own: what auto means for the model.

    Errors: Unknown for a cache dtype that stores more than its values.
    Source: vLLM 0.32.0 config/cache.py, cache_dtype.
    """
    asked = str(engine_args.get("kv_cache_dtype", _AUTO))
    asked = own if asked == _AUTO else asked
    if asked == _AUTO:
        try:
            return dtype_bytes(engine_args)
        except Unknown as reason:
            raise Unknown(f"the size of kv_cache_dtype auto: {reason}") from reason
    found = _CACHE_BYTES.get(asked)
    if found is None:
        raise Unknown(f"the size of kv_cache_dtype {asked} is not known")
    return found
