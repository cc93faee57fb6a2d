"""A mistake in a stack, in tiers or in relations is told with its place and its fix.

What is said of a case stands in tests/stacks/errors/<case>.txt, byte for byte; a case is one edit
of a file of tests/stacks/example.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from compiler.document import Document, Node
from compiler.library import shipped
from compiler.load.yaml_tree import load
from compiler.report.diagnostics import in_order, written
from compiler.shipped_files import data_text, schema
from compiler.stacks.lint.lint import lint
from tests.stacks.support import SHIPPED
from tests.support import ROOT

HERE = Path(__file__).parent
STACK, TIERS, RELATIONS = "vllm-0.32.yaml", "lmcache-0.5.6.yaml", "engine_relations.yaml"
CASES = {
    "unknown-key": (STACK, "ready_path: /health", "redy_path: /health"),
    "missing-key": (STACK, "summary: a small stack\n", ""),
    "wrong-type": (STACK, "block_size: 128", 'block_size: "128"'),
    "wrong-value": (STACK, "severity: error", "severity: eror"),
    "wrong-form": (STACK, 'at: "2026-11-26"', 'at: "26.11.2026"'),
    "wrong-variable": (STACK, "LANG: C.UTF-8", "lang: C.UTF-8"),
    "empty-list": (STACK, "role: [aggregated, prefill]", "role: []"),
    "wrong-fact": (STACK, "role: [aggregated, prefill]", "role: [agregated]"),
    "yaml-syntax": (STACK, "env: {LANG: C.UTF-8}", "env: {LANG: C.UTF-8"),
    "connector-without-role": (STACK, "      kv_role: kv_producer\n", ""),
    "without-schema": (STACK, "# yaml-language-server", "# yaml-language-serve"),
    "other-name": (STACK, "name: vllm-0.32", "name: vllm-0.33"),
    "placeholder": (STACK, "hello {name}", "hello {nam}"),
    "placeholder-of-another-process": (STACK, "LANG: C.UTF-8", 'LANG: "{engine_file}"'),
    "tiers": (STACK, "tiers: lmcache-0.5.6", "tiers: lmcache-0.5.7"),
    "owned-option": (STACK, "max_model_len:", "max_model_length:"),
    "engine-option": (STACK, "served_model_name:", "served_model:"),
    "lmcache-key": (STACK, "chunk_size:", "chunk_siz:"),
    "fact": (STACK, "{role: [", "{roll: ["),
    "condition-option": (STACK, "enable_prefix_caching:", "enable_prefix_cache:"),
    "condition-variable": (STACK, "VLLM_LOGGING_LEVEL", "VLLM_LOGING_LEVEL"),
    "profile-key": (STACK, "at: [lmcache, mode]", "at: [lmcache, moda]"),
    "connector": (STACK, "without_hybrid_manager: []", "without_hybrid_manager: [NixlConector]"),
    "metrics-port": (
        STACK,
        "metrics_port: port\n    stop_s: 15",
        "metrics_port: http\n    stop_s: 15",
    ),
    "tier-key": (TIERS, "persistent: true", "persistant: true"),
    "tier-refused": (TIERS, "refused: nobody", "refusd: nobody"),
    "tier-placeholder": (TIERS, 'folder: "{path}"', 'folder: "{pathe}"'),
    "tier-option": (TIERS, "when: {direct_io", "when: {direct"),
    "relation-key": (RELATIONS, "at_most: max", "atmost: max"),
    "relation-option": (RELATIONS, "at: max_num_seqs", "at: max_num_seq"),
    "relation-needs": (RELATIONS, "{enable_expert_parallel", "{enable_expert_paralel"),
    "relation-release": (RELATIONS, "[0.31.0, 0.32.0]", "[0.31.1, 0.32.0]"),
}


def told(text: str, name: str) -> str:
    return written(in_order(lint(text, name, shipped())), {name: text}, "text")


@pytest.mark.parametrize("name", [STACK, TIERS, RELATIONS])
def test_the_examples_are_right(name: str) -> None:
    assert told((HERE / "example" / name).read_text("utf-8"), name) == ""


@pytest.mark.parametrize("case", CASES)
def test_what_is_said(case: str, request: pytest.FixtureRequest) -> None:
    name, old, new = CASES[case]
    text = (HERE / "example" / name).read_text("utf-8")
    assert old in text
    found = told(text.replace(old, new, 1), name)
    golden = HERE / "errors" / f"{case}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(found, "utf-8")
        pytest.fail(f"wrote {golden}; --update-golden never passes")
    assert found == golden.read_text("utf-8")
    assert found.startswith(f"{name}:")
    assert found.count("= rule: ") == found.count("= fix:  ") >= 1


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in (HERE / "errors").iterdir()} == set(CASES)


def test_a_new_stack_is_told_of_its_catalogues() -> None:
    text = (HERE / "example" / STACK).read_text("utf-8").replace("vllm-0.32", "vllm-9.1")
    found = lint(text, "schemas/stacks/vllm-9.1.yaml", shipped())
    assert [item.message for item in found] == [
        f"schemas/stacks/vllm-9.1 has no {name}.json"
        for name in ("vllm", "vllm-env", "lmcache-config")
    ]
    assert found[0].fix == (
        "run: python tools/catalogue.py vllm-9.1 --python PYTHON -o schemas/stacks/vllm-9.1"
    )


def test_a_command_has_a_word_for_each_connector() -> None:
    text = (HERE / "example" / STACK).read_text("utf-8")
    words = "  command: {flag: --connector, none: none, words: {NixlConnector: nixl}}\n"
    (found,) = lint(text.replace("lmcache_config:", f"{words}lmcache_config:", 1), STACK, shipped())
    assert found.message == "words has none for the connector LMCacheMPConnector"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_has_no_mistake(name: str) -> None:
    assert told(data_text(name), f"schemas/{name}") == ""


def closed_keys(node: Node, part: Any, root: Any) -> Iterator[tuple[Node, str, Any]]:
    """Return each key of a mapping that takes no other keys, with the mapping and its schema."""
    if "$ref" in part:
        part = root["$defs"][part["$ref"].rpartition("/")[2]]
    if "if" in part:
        is_array = part["if"].get("type") == "array" and isinstance(node.value, tuple)
        is_refused = isinstance(node.value, Mapping) and "refused" in node.value
        yield from closed_keys(node, part["then" if is_array or is_refused else "else"], root)
    elif isinstance(node.value, Mapping):
        for key, child in node.value.items():
            if part.get("additionalProperties") is False:
                yield node, key, part
            below = part.get("properties", {}).get(key, part.get("additionalProperties"))
            if isinstance(below, dict):
                yield from closed_keys(child, below, root)
    elif isinstance(node.value, tuple):
        for child in node.value:
            yield from closed_keys(child, part.get("items", {}), root)


def misspelt(key: str, chance: random.Random) -> str:
    """Return a key with one letter more, fewer or other."""
    at, letter = chance.randrange(1, len(key) + 1), chance.choice("abcdefghijklmnopqrstuvwxyz")
    end = at if len(key) < 4 else chance.choice((at, at + 1))
    return (
        key[:at] + letter + key[end:]
        if end == at or chance.random() < 0.5
        else key[: at - 1] + key[at:]
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_any_key_that_is_misspelt_is_found(name: str) -> None:
    text, chance = data_text(name), random.Random(name)
    document = load(text, name).value
    assert isinstance(document, Document)
    named = text.partition("\n")[0].rpartition("/")[2].rpartition("=")[2]
    keys = list(closed_keys(document.root, schema(named), schema(named)))
    assert len(keys) > 50
    for node, key, part in chance.sample(keys, 8):
        wrong, at = misspelt(key, chance), node.keys[key]
        if wrong in part["properties"]:
            continue
        lines = text.split("\n")
        line = lines[at.line - 1]
        lines[at.line - 1] = line[: at.column - 1] + wrong + line[at.column - 1 + len(key) :]
        (found,) = (
            item for item in lint("\n".join(lines), name, shipped()) if item.rule == "unknown-key"
        )
        span = found.primary.span
        assert (span.line, span.column) == (at.line, at.column), wrong
        assert (found.fix, found.primary.text) == (f"write {key}", f"did you mean {key}?")


def test_the_tool_prints_what_is_wrong(tmp_path: Path) -> None:
    name, old, new = CASES["placeholder"]
    text = (HERE / "example" / name).read_text("utf-8").replace(old, new)
    (tmp_path / name).write_text(text, "utf-8")
    tool = [sys.executable, str(ROOT / "tools" / "check_stacks.py")]
    done = subprocess.run([*tool, name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (HERE / "errors" / "placeholder.txt").read_text("utf-8")
    done = subprocess.run(
        [*tool, "none"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "none: No such file or directory\n")
    done = subprocess.run(tool, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
