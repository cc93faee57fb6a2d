"""The profiles of `dync init`: right as they stand, and complete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from compiler.cli.main import dync
from compiler.shipped_files import profile_schema, template_text
from tests.support import compile_text, plan_in

NAMES = ("agg", "disagg")
_COMMENTED = re.compile(r"^( *)# ?( *)(?=[a-z_]+:(?: |$))", re.MULTILINE)
# Keys whose commented value is an example, not a default.
NO_DEFAULT = {
    "extends",
    "served_name",
    "max_len",
    "api_key_file",
    "certificate",
    "key",
    "ready_timeout_s",
    "routing",
    "port",
    "tiers",
}
CHOSEN = {("disagg", "engine_args")}  # what a template sets, commented out nowhere


def uncommented(text: str) -> str:
    return _COMMENTED.sub(lambda match: match[1] + match[2], text)


def keys(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, below in schema.get("properties", {}).items():
        yield (*path, name), below
        if "x-one-of" in below.get("items", {}):
            continue  # a profile has a few of these kinds, never all
        yield from keys(below, (*path, name))
        yield from keys(below.get("items", {}), (*path, name))


def values(data: Any, path: tuple[str, ...]) -> list[Any]:
    items = data if isinstance(data, list) else [data]
    if not path:
        return items
    return [
        found
        for item in items
        if isinstance(item, dict) and path[0] in item
        for found in values(item[path[0]], path[1:])
    ]


@pytest.mark.parametrize("name", NAMES)
def test_compiles_without_a_diagnostic(name: str) -> None:
    compiled = compile_text(template_text(f"init/{name}.yaml"))
    assert compiled.diagnostics == ()
    assert compiled.resolved is not None
    assert compiled.resolved.plan.topology.value == name


@pytest.mark.parametrize("name", NAMES)
def test_every_key_appears_with_its_default(name: str) -> None:
    data = yaml.safe_load(uncommented(template_text(f"init/{name}.yaml")))
    for path, schema in keys(profile_schema()):
        found = values(data, path)
        assert found, path
        chosen = path[-1] in NO_DEFAULT or (name, path[-1]) in CHOSEN
        if "default" in schema and not chosen:
            assert schema["default"] in (found, *found), path


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_a_word_beside_it(name: str) -> None:
    """A line that gives a value says in a comment what the choice is."""
    bare = [
        line
        for line in uncommented(template_text(f"init/{name}.yaml")).splitlines()
        if re.match(r" *(?:- )?[a-z_]+: \S", line) and " # " not in line
    ]
    allowed = {
        "  port: 8000",
        "- role: aggregated",
        "- role: prefill",
        "- role: decode",
        "  gpus: [1]",
    }
    assert [line for line in bare if line.strip() not in {word.strip() for word in allowed}] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("model", "chunk"),
    [
        ("Qwen/Qwen3-8B", 256),
        ("Qwen/Qwen3.5-27B", 784),
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8", 8320),
        ("/srv/my models/one", 256),
    ],
)
def test_a_profile_of_a_model_fits_it(name: str, model: str, chunk: int) -> None:
    done = CliRunner().invoke(dync, ["init", name, "--model", model])
    compiled = compile_text(done.stdout)
    assert {found.rule for found in compiled.diagnostics} <= {"model-unknown"}
    plan = plan_in(compiled)
    assert (plan.model, plan.lmcache.chunk_size) == (model, chunk)


def test_blocks_of_a_model_with_small_states_become_chunks(tmp_path: Path) -> None:
    """Blocks of 16 tokens hold a state of short convolutions, and a chunk is one block."""
    config = {
        "architectures": ["Lfm2ForCausalLM"],
        "model_type": "lfm2",
        "hidden_size": 256,
        "conv_L_cache": 3,
        "conv_dim": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "layer_types": ["conv", "full_attention"] * 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = CliRunner().invoke(dync, ["init", "agg", "--model", str(tmp_path)])
    compiled = compile_text(done.stdout)
    assert [found.rule for found in compiled.diagnostics] == []
    plan = plan_in(compiled)
    assert plan.lmcache.chunk_size == 256
    assert [it.launch.engine_args["block_size"] for it in plan.cached_workers] == [256]
