"""The blocks of hybrid models are what vLLM itself makes of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compiler.document import Json
from compiler.library import known_models
from compiler.model.block_size import WorkerShape
from compiler.model.kv_shape import kv_shape
from compiler.model.layers import Unknown

pytestmark = pytest.mark.engine

ASK = Path(__file__).parent / "block_sizes.py"
OPTIONS: tuple[dict[str, Json], ...] = (
    {},
    {"kv_cache_dtype": "fp8"},
    {"block_size": 64},
    {"speculative_config": {"num_speculative_tokens": 2}},
    {"mamba_ssm_cache_dtype": "float32"},
)
# Shapes of families that the table has no model of, as their configuration classes name them.
MADE: dict[str, dict[str, Json]] = {
    "GraniteMoeHybridForCausalLM": {
        "model_type": "granitemoehybrid", "num_hidden_layers": 4, "num_attention_heads": 32,
        "num_key_value_heads": 8, "hidden_size": 4096, "mamba_expand": 2, "mamba_n_groups": 1,
        "mamba_n_heads": 128, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_d_conv": 4,
        "layer_types": ["mamba", "mamba", "attention", "mamba"],
    },
    "FalconH1ForCausalLM": {
        "model_type": "falcon_h1", "num_hidden_layers": 4, "num_attention_heads": 16,
        "num_key_value_heads": 4, "head_dim": 128, "hidden_size": 3072, "mamba_d_ssm": 3072,
        "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 48, "mamba_d_head": 64,
        "mamba_d_state": 256, "mamba_d_conv": 4,
    },
    "JambaForCausalLM": {
        "model_type": "jamba", "num_hidden_layers": 8, "num_attention_heads": 32,
        "num_key_value_heads": 8, "hidden_size": 4096, "attn_layer_period": 8,
        "attn_layer_offset": 4, "mamba_expand": 2, "mamba_d_state": 16, "mamba_d_conv": 4,
    },
    "Lfm2ForCausalLM": {
        "model_type": "lfm2", "num_hidden_layers": 3, "num_attention_heads": 32,
        "num_key_value_heads": 8, "hidden_size": 2048, "conv_dim": 2048, "conv_L_cache": 3,
        "layer_types": ["conv", "conv", "full_attention"],
    },
    "OlmoHybridForCausalLM": {
        "model_type": "olmo_hybrid", "num_hidden_layers": 4, "num_attention_heads": 32,
        "num_key_value_heads": 32, "hidden_size": 4096, "linear_num_key_heads": 32,
        "linear_num_value_heads": 32, "linear_key_head_dim": 96, "linear_value_head_dim": 192,
        "linear_conv_kernel_dim": 4,
        "full_attention_interval": 4,
    },
}  # fmt: skip


def models() -> Iterator[tuple[str, str, dict[str, Json]]]:
    """Return every hybrid model that is known, and the made ones: name, architecture, config."""
    for name, config in known_models().items():
        try:
            is_hybrid = kv_shape(config).states > 0
        except Unknown:
            is_hybrid = False
        named = config.get("architectures")
        if is_hybrid and isinstance(named, list):
            yield name, str(named[0]), config
    for architecture, config in MADE.items():
        yield architecture, architecture, config


def questions() -> Iterator[dict[str, Any]]:
    """Return what is asked of vLLM: each model, split in four ways, with each set of options."""
    for name, architecture, config in models():
        own = kv_shape(config).cache_dtype
        for ranks in (1, 2, 4, 8):
            for options in OPTIONS:
                dtype = options.get("kv_cache_dtype", own)
                yield {
                    "name": name,
                    "architecture": architecture,
                    "config": config,
                    "ranks": ranks,
                    "options": options,
                    "engine_args": {**options, "kv_cache_dtype": dtype},
                }


def test_blocks_are_as_large_as_vllm_makes_them(prefix: Path, tmp_path: Path) -> None:
    asked = list(questions())
    (tmp_path / "asked.json").write_text(json.dumps(asked), "utf-8")
    python = prefix / "stacks" / "vllm-0.32" / "bin" / "python"
    files = [str(tmp_path / "asked.json"), str(tmp_path / "answers.json")]
    subprocess.run([str(python), str(ASK), *files], check=True, cwd=tmp_path)
    answers = json.loads((tmp_path / "answers.json").read_text("utf-8"))
    wrong = []
    for question, answer in zip(asked, answers, strict=True):
        split = WorkerShape(
            shape=kv_shape(question["config"]),
            ranks=question["ranks"],
            engine_args=question["options"],
            default_block=16,
            latent_block=128,
        )
        if [split.block_tokens, split.state_bytes] != answer:
            ours = f"{split.block_tokens} tokens, {split.state_bytes} bytes"
            wrong.append(
                f"{question['name']} ranks {question['ranks']} {question['options']}: "
                f"{ours}; vLLM: {answer}"
            )
    assert len(asked) > 400
    assert not wrong, "\n".join(wrong)
