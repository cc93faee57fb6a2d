"""Read a model's config.json: its part about text, counts, options that override it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.document import Json

# Where a larger model's config.json has the part about text: transformers 5.19
# configuration_utils.py, get_text_config; vLLM 0.32.0 transformers_utils/config.py,
# get_hf_text_config.
_TEXT_PARTS = ("text_config", "thinker_config", "llm_config", "language_config")
# Keys that any rule or figure depends on; the table of known models has no others.
KEPT = frozenset(
    """
    architectures model_type dtype torch_dtype tie_word_embeddings is_encoder_decoder
    num_hidden_layers num_attention_heads num_key_value_heads num_kv_heads n_head_kv
    multi_query_group_num num_attention_groups head_dim v_head_dim hidden_size vocab_size
    max_position_embeddings n_positions max_seq_len seq_length max_sequence_length max_seq_length
    seq_len model_max_length rope_scaling rope_parameters
    sliding_window use_sliding_window max_window_layers sliding_window_pattern layer_types
    layers_block_type
    hybrid_layer_pattern swa_num_key_value_heads swa_head_dim swa_v_head_dim
    global_head_dim num_global_key_value_heads num_kv_shared_layers block_configs
    kv_lora_rank q_lora_rank qk_rope_head_dim qk_nope_head_dim
    index_topk index_head_dim index_n_heads index_topk_freq index_topk_pattern
    index_skip_topk_offset compress_ratios sparse_attention_config
    hybrid_override_pattern full_attention_interval linear_attn_config attn_layer_period
    attn_layer_offset attn_layer_indices full_attn_idxs attn_type_list
    linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim
    linear_conv_kernel_dim mamba_ssm_dtype mamba_ssm_cache_dtype
    mamba_num_heads mamba_head_dim n_groups ssm_state_size conv_kernel
    mamba_expand mamba_n_groups mamba_n_heads mamba_d_head mamba_d_state mamba_d_conv mamba_d_ssm
    mamba_ngroups n_mamba_heads mamba_headdim attention_head_dim conv_dim conv_L_cache
    ssm_cfg quantization_config
    intermediate_size moe_intermediate_size num_experts num_local_experts n_routed_experts
    n_shared_experts first_k_dense_replace
    """.split()  # noqa: SIM905 -- quoted one by one, the groups would not be seen
)
_QUANTIZATION = frozenset(
    """
    quant_method quant_algo kv_cache_scheme kv_cache_quant_algo quantization producer name
    num_bits type dynamic
    """.split()  # noqa: SIM905 -- as above
)


def text_part(config: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the part of a config.json that is about text: that of a larger model, or all of it."""
    while True:
        nested = next((it for key in _TEXT_PARTS if isinstance(it := config.get(key), dict)), None)
        if not isinstance(nested, dict):
            return config
        config = nested


def quantization(config: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return what a config.json says of quantized weights; nothing where it does not."""
    for part in (config, text_part(config)):
        found = part.get("quantization_config")
        if isinstance(found, dict):
            return found
    return {}


def whole(text: Mapping[str, Json], *keys: str) -> int | None:
    """Return the first count that a config.json has under these keys; None where it has none."""
    for key in keys:
        value = text.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def words(text: Mapping[str, Json], key: str) -> list[str] | None:
    """Return a list of words; None where it is missing."""
    value = text.get(key)
    return [str(item) for item in value] if isinstance(value, list) else None


def numbers(text: Mapping[str, Json], key: str) -> list[int]:
    """Return a list of whole numbers; none where it is missing."""
    value = text.get(key)
    return [item for item in value if isinstance(item, int)] if isinstance(value, list) else []


def overridden(config: Mapping[str, Json], overrides: Mapping[str, Json]) -> dict[str, Json]:
    """Return a config.json as the engine sees it with its option hf_overrides.

    Shape:  a mapping goes into a part of the model that config.json has, key by key; whatever else
            takes a key's place.
    Source: vLLM 0.32.0 config/model.py, _apply_dict_overrides and _update_nested.
    """
    changed = dict(config)
    for key, value in overrides.items():
        inner = changed.get(key)
        if key in _TEXT_PARTS and isinstance(inner, dict) and isinstance(value, dict):
            changed[key] = overridden(inner, value)
        else:
            changed[key] = value
    return changed


def kept(config: Mapping[str, Json]) -> dict[str, Json]:
    """Return the part of a config.json that anything depends on, in the order of its keys."""
    found: dict[str, Json] = {}
    for key, value in sorted(config.items()):
        if key in _TEXT_PARTS and isinstance(value, dict):
            found[key] = kept(value)
        elif key == "quantization_config" and isinstance(value, dict):
            found[key] = _quantized(value)
        elif key == "block_configs" and isinstance(value, list):
            found[key] = [_attention_alone(block) for block in value]
        elif key in KEPT and value is not None:
            found[key] = value
    return found


def _quantized(said: Mapping[str, Json]) -> dict[str, Json]:
    """Return what decides how wide weights and cache are, without lists of layers."""
    return {
        key: _quantized(value) if isinstance(value, dict) else value
        for key, value in sorted(said.items())
        if key in _QUANTIZATION and value is not None
    }


def _attention_alone(block: Json) -> Json:
    """Return of one layer what its attention is; Nemotron's pruned models list every layer."""
    attention = block.get("attention") if isinstance(block, dict) else None
    names: Sequence[str] = ("n_heads_in_group", "no_op", "replace_with_linear")
    inner = attention if isinstance(attention, dict) else {}
    return {"attention": {name: inner[name] for name in names if inner.get(name)}}
