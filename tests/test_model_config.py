"""What rules read from a model's config.json."""

from __future__ import annotations

import pytest

from compiler.document import Json
from compiler.model.config import model_config

PLAIN: dict[str, Json] = {
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
}


def test_plain_model() -> None:
    found = model_config(PLAIN)
    assert (found.attention_heads, found.kv_heads, found.max_len) == (16, 8, 40960)
    assert (found.is_latent, found.keeps_state, found.has_windows) == (False, False, False)
    assert found.shape is not None


def test_every_head_has_its_own_keys_where_nothing_else_is_said() -> None:
    assert model_config({"num_attention_heads": 12}).kv_heads == 12


@pytest.mark.parametrize(
    ("extra", "keeps_state", "has_windows"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, True, False),
        ({"layers_block_type": ["mamba", "attention"]}, True, False),
        ({"mamba_d_state": 128}, True, False),
        ({"mamba_d_state": 128, "layer_types": ["attention", "attention"]}, False, False),
        (
            {"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"]},
            False,
            True,
        ),
        ({"sliding_window": 4096}, False, False),
        ({"sliding_window": 4096, "layer_types": ["sliding_attention"] * 2}, False, False),
        (
            {
                "sliding_window": 4096,
                "use_sliding_window": False,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            False,
            False,
        ),
    ],
)
def test_kinds_of_layers(extra: dict[str, Json], keeps_state: bool, has_windows: bool) -> None:
    found = model_config({**PLAIN, **extra})
    assert (found.keeps_state, found.has_windows) == (keeps_state, has_windows)


@pytest.mark.parametrize(
    ("extra", "longest"),
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 40960),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 40960),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, 40960),
        ({"rope_scaling": None}, 40960),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, None),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "model_type": "gemma3"}, 40960),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, 40960),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, None),
        ({"seq_length": 8192}, 8192),
        ({"model_max_length": 131072}, 131072),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_longest_request(extra: dict[str, Json], longest: int | None) -> None:
    """A length is given only where vLLM's derivation of it is certain."""
    assert model_config({**PLAIN, **extra}).max_len == longest
