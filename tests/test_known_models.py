"""The table of known models, and where else a config.json is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from compiler import shipped_files
from compiler.cli.main import dync
from compiler.document import Json
from compiler.library import known_models, load_config, load_model, load_shape
from compiler.model.asked import AskedModel, asked_model
from compiler.model.config import model_config
from compiler.model.config_json import kept, overridden
from compiler.model.kv_shape import kv_shape
from compiler.model.layers import Unknown

TABLE = json.loads(shipped_files.models_text())["models"]
# Families whose caches no key of config.json tells in a form known here.
OPEN = ("DeepseekV4ForCausalLM", "MiniMaxM3ForCausalLM", "MiniMaxM3SparseForConditionalGeneration")
PLAIN: dict[str, Json] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 256,
    "max_position_embeddings": 4096,
}


def asked(place: str, revision: str = "main") -> AskedModel:
    return AskedModel(place=place, revision=revision, overrides={})


def test_every_known_model_is_read_and_says_where_it_is_from() -> None:
    assert len(TABLE) > 200
    for name, entry in TABLE.items():
        config = entry["config"]
        assert set(entry) == {"source", "config"}, name
        assert entry["source"].endswith("PyPI") or entry["source"].startswith("github.com: "), name
        assert kept(config) == config, name
        found = model_config(config)
        assert found.attention_heads, name
        if (config.get("architectures") or [""])[0] in OPEN:
            assert found.shape is None, name
            continue
        shape = kv_shape(config)
        assert shape.rank_bytes(1, 2) > 0, name
        assert bool(shape.states) is found.keeps_state, name


def test_the_table_is_one_model_a_line_by_name() -> None:
    lines = shipped_files.models_text().splitlines()[3:-2]
    names = [json.loads("{" + line.rstrip(",") + "}") for line in lines]
    assert [next(iter(item)) for item in names] == sorted(TABLE)


@pytest.mark.parametrize(
    ("model", "token_kib"),
    [
        # What LMCache's calculator and vendors' own pages give for one token in 16 bits.
        ("meta-llama/Llama-3.1-8B-Instruct", 128),
        ("meta-llama/Llama-3.1-70B-Instruct", 320),
        ("deepseek-ai/DeepSeek-V3", 68.625),
        ("Qwen/Qwen2.5-7B-Instruct", 56),
    ],
)
def test_a_token_is_as_large_as_is_known(model: str, token_kib: float) -> None:
    assert kv_shape(known_models()[model]).rank_bytes(1, 2) == token_kib * 1024


def cache_with(folder: Path, config: dict[str, Json], revision: str = "main") -> Path:
    place = folder / "models--some--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / revision).write_text("abc123", "utf-8")
    (place / "snapshots" / "abc123").mkdir(parents=True)
    (place / "snapshots" / "abc123" / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def test_a_downloaded_model_is_read_by_its_revision(tmp_path: Path) -> None:
    caches = (str(tmp_path / "none"), str(cache_with(tmp_path / "hub", PLAIN)))
    assert load_config(asked("some/model"), caches) == PLAIN
    assert load_config(asked("some/model", "abc123"), caches) == PLAIN
    with pytest.raises(Unknown, match=r"no config\.json"):
        load_config(asked("some/model", "v2"), caches)
    assert load_model(asked("some/other"), caches).reason == "no config.json of it is here"


def test_what_is_downloaded_counts_before_the_table(tmp_path: Path) -> None:
    cache = cache_with(tmp_path, PLAIN)
    (cache / "models--some--model").rename(cache / "models--Qwen--Qwen3-0.6B")
    assert load_shape(asked("Qwen/Qwen3-0.6B"), (str(cache),)).layers[0].count == 2
    assert load_shape(asked("Qwen/Qwen3-0.6B")).layers[0].count == 28


def test_modelopts_own_file_counts_where_config_json_has_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PLAIN), "utf-8")
    said = {"producer": {"name": "modelopt"}, "quantization": {"kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(said), "utf-8")
    assert load_shape(asked(str(tmp_path))).cache_dtype == "fp8"


def test_overrides_go_into_the_text_part_and_replace_all_else() -> None:
    config: dict[str, Json] = {
        "text_config": {"num_hidden_layers": 4, "head_dim": 64},
        "rope_scaling": {"factor": 2},
    }
    changed = overridden(
        config, {"text_config": {"num_hidden_layers": 2}, "rope_scaling": {"rope_type": "yarn"}}
    )
    assert changed["text_config"] == {"num_hidden_layers": 2, "head_dim": 64}
    assert changed["rope_scaling"] == {"rope_type": "yarn"}
    assert config["text_config"] == {"num_hidden_layers": 4, "head_dim": 64}


@pytest.mark.parametrize(
    ("args", "unread"),
    [
        ([{}, {"hf_overrides": {"head_dim": 8}}], "its workers have different hf_overrides"),
        ([{"config_format": "mistral"}], "a configuration of config_format mistral is not read"),
        ([{"hf_overrides": "head_dim"}], "its hf_overrides are no mapping"),
        ([{"hf_overrides": "[1]"}], "its hf_overrides are no mapping"),
        ([{"hf_overrides": '{"head_dim": 8}'}], ""),
        ([{"config_format": "hf"}, {"config_format": "hf"}], ""),
    ],
)
def test_one_model_for_all_workers(args: list[dict[str, Json]], unread: str) -> None:
    found = asked_model("some/model", args)
    assert found.unread == unread
    if unread:
        assert load_model(found).reason == unread


def test_a_path_and_a_revision_of_the_options_count() -> None:
    found = asked_model("some/model", [{"hf_config_path": "/srv/conf", "revision": "v2"}])
    assert (found.place, found.revision) == ("/srv/conf", "v2")


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 10**12, "num_attention_heads": 4, "hidden_size": 64},
        {"architectures": "Some", "num_hidden_layers": True, "layer_types": 5},
        {"num_hidden_layers": 2, "layer_types": [["a"], None], "rope_scaling": [1]},
        {"num_hidden_layers": 2, "linear_attn_config": {"full_attn_layers": "x"}},
        {"hybrid_override_pattern": "M*?", "quantization_config": "fp8"},
        {"block_configs": [1, {"attention": []}], "num_hidden_layers": 2},
        {"sliding_window": -1, "sliding_window_pattern": 0, "num_hidden_layers": 1},
        {"text_config": {"text_config": {}}, "index_topk": 1, "index_head_dim": 0},
        {"quantization_config": {"quant_method": 5, "kv_cache_scheme": [1], "producer": 1}},
        {
            "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64,
            "sliding_window": 8, "layer_types": ["mamba", "sliding_attention"],
            "mamba_n_groups": 1, "mamba_n_heads": 1, "mamba_d_head": 1, "mamba_d_state": 1,
            "mamba_d_conv": 1, "mamba_d_ssm": 1,
        },
    ],
    ids=lambda config: next(iter(config)),
)  # fmt: skip
def test_whatever_config_json_says_is_read_without_a_traceback(
    config: dict[str, Json], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    profile = tmp_path / "one.yaml"
    profile.write_text(
        f"name: one\nstack: vllm-0.32\ntopology: agg\nmodel: {{id: {tmp_path}}}\n"
        "workers: [{role: aggregated, gpus: [0], engine_args: {enable_prefix_caching: true}}]\n",
        "utf-8",
    )
    done = CliRunner().invoke(dync, ["check", "--explain-memory", str(profile)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (0, 1)


def test_a_name_too_long_for_a_folder_is_not_there(tmp_path: Path) -> None:
    long = AskedModel(place="a" * 5000, revision="b\0c" * 3000, overrides={})
    assert load_model(long, (str(tmp_path),)).is_missing
