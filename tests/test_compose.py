"""Profiles put together: what they extend, and --set."""

from __future__ import annotations

import pytest

from compiler.library import library
from compiler.load.compose import MAX_CHAIN, TOP_KEYS, compose
from compiler.load.yaml_tree import MAX_ENTRIES, MAX_NODES
from compiler.pipeline import Compiled
from tests.support import AGG, compile_text, plan_in, plan_of


def rules(compiled: Compiled) -> list[str]:
    return [found.rule for found in compiled.diagnostics]


def test_set_replaces_a_value_and_the_plan_says_so() -> None:
    plan = plan_of(AGG, "lmcache.chunk_size=512")
    assert plan.lmcache.chunk_size == 512
    assert dict(plan.source.overrides) == {"lmcache.chunk_size": "512"}
    assert [file.path for file in plan.source.files] == ["profile.yaml"]


def test_the_last_set_wins() -> None:
    assert plan_of(AGG, "frontend.port=9000", "frontend.port=9001").url.endswith(":9001/v1")


def test_set_on_lists() -> None:
    plan = plan_of(AGG, "workers[0].gpus=[3, 4]", "workers[0].gpus[1]=7", "workers[0].replicas=2")
    gpus = [process.gpus for process in plan.processes if process.role is not None]
    assert gpus == [("3",), ("7",)]


@pytest.mark.parametrize(
    "override",
    ["workers[1].port=1", "workers[0][0]=1", "model[0]=x", "name", "=x", ".a=1", "a b=1", "a[=1"],
)
def test_set_that_names_nothing(override: str) -> None:
    compiled = compile_text(AGG, override)
    assert rules(compiled) == ["set-option"]
    assert compiled.resolved is None


def test_set_of_extends_is_refused() -> None:
    assert rules(compile_text(AGG, "extends=agg.yaml")) == ["set-option"]


def test_wrong_extends_is_not_hidden_by_set() -> None:
    assert rules(compile_text("extends: 5\n" + AGG, "frontend.port=9000")) == ["wrong-type"]


def test_an_error_in_set_points_at_the_option() -> None:
    (found,) = compile_text(AGG, "lmcache.chunk_size=200").diagnostics
    span = found.primary.span
    assert (span.file, span.line, span.column) == ("--set lmcache.chunk_size", 1, 20)


def test_what_set_shares_stays_shared() -> None:
    """A hundred thousand values that aliases stand for are as many nodes as were written."""
    shared = [f"&a0 [{', '.join('x' * 10)}]"]
    shared += [f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 5)]
    document = compose("p", lambda _: AGG, [f"name=[{', '.join(shared)}]"]).document
    assert document is not None
    nodes, rest = {}, [document.root]
    while rest:
        node = rest.pop()
        if id(node) not in nodes:
            nodes[id(node)] = node
            rest.extend(node.children())
    assert len(nodes) < 50
    assert document.span(("name", 4, 9, 9, 9, 9, 9)) == document.span(("name", 0, 9))
    assert document.span(("name", 0, 0)).column == len("name=[&a0 [") + 1


BASE = "extends: agg.yaml\nname: base\nlmcache: {cpu_cache_gb: 4}\n"


def test_extends_chain_merges_mappings_and_replaces_lists() -> None:
    text = "extends: base.yaml\nname: top\nworkers: [{role: aggregated, gpus: [5]}]\n"
    plan = plan_in(compile_text(text, also={"base.yaml": BASE}))
    assert (plan.name, plan.lmcache.cpu_cache_gb, plan.lmcache.chunk_size) == ("top", 4, 256)
    assert [process.gpus for process in plan.processes] == [("5",), ("5",)]
    assert [file.path for file in plan.source.files] == ["profile.yaml", "base.yaml", "agg.yaml"]


def test_extends_is_relative_to_the_file_that_says_it() -> None:
    also = {"sub/base.yaml": "extends: ../other.yaml\nname: base\n", "other.yaml": AGG}
    plan = plan_in(compile_text("extends: sub/base.yaml\n", also=also))
    assert plan.name == "base"


@pytest.mark.parametrize(
    ("text", "also"),
    [
        ("extends: profile.yaml\n", {}),
        ("extends: ./profile.yaml\n", {}),
        ("extends: a.yaml\n", {"a.yaml": "extends: b.yaml\n", "b.yaml": "extends: a.yaml\n"}),
        ("extends: none.yaml\n", {}),
    ],
)
def test_cycles_and_missing_parents(text: str, also: dict[str, str]) -> None:
    assert rules(compile_text(text, also=also)) == ["extends"]


def test_an_error_in_a_parent_points_into_it() -> None:
    (found,) = compile_text("extends: a.yaml\n", also={"a.yaml": AGG + "nme: x\n"}).diagnostics
    assert (found.rule, found.primary.span.file) == ("unknown-key", "a.yaml")


@pytest.mark.parametrize(
    "text", ["[1]\n", "root:x:0:0\n", "A=1\0B=2", "# name\n", "names: 1\n", "a: b\n  name: 1\n", ""]
)
def test_a_file_that_is_no_profile_is_not_shown(text: str) -> None:
    compiled = compile_text(f"extends: a.yaml\n{AGG}", also={"a.yaml": text})
    assert rules(compiled) == ["extends"]
    assert "a.yaml is no profile" in compiled.diagnostics[0].message
    assert set(compiled.sources) == {"profile.yaml"}


@pytest.mark.parametrize(
    "text", ["name: a\n", "{name: a}\n", '{\n  "name": "a"\n}\n', "# x\n'name': a\n"]
)
def test_any_form_of_a_profile_is_extended(text: str) -> None:
    assert plan_in(compile_text(f"extends: a.yaml\n{AGG}", also={"a.yaml": text})).name == "one"


def test_keys_of_a_profile_are_those_of_the_schema() -> None:
    assert sorted(library().schema["properties"]) == list(TOP_KEYS)


@pytest.mark.parametrize("path", ["/etc/shadow", "/proc/self/environ", "//a.yaml"])
def test_an_absolute_path_is_not_read(path: str) -> None:
    compiled = compile_text(f"extends: {path}\n{AGG}", also={path: "name: a\n"})
    assert rules(compiled) == ["extends"]
    assert "absolute" in compiled.diagnostics[0].message


def test_a_long_chain_ends() -> None:
    also = {f"{n}.yaml": f"extends: {n + 1}.yaml\n" for n in range(1200)}
    compiled = compile_text(f"extends: 0.yaml\n{AGG}", also=also)
    assert rules(compiled) == ["extends"]
    assert f"more than {MAX_CHAIN} profiles" in compiled.diagnostics[0].message


@pytest.mark.parametrize(("above", "most"), [("", MAX_ENTRIES), ("deploy:\n", MAX_NODES // 2)])
def test_a_chain_is_no_larger_than_one_file_may_be(above: str, most: int) -> None:
    """Ten files fit, and nothing is read after the eleventh; a key and its value are two values."""
    pad, size = "  " if above else "", most // 10 - 10
    also = {
        f"{n}.yaml": f"extends: {n + 1}.yaml\n{above}"
        + "".join(f"{pad}k{n}_{at}: 1\n" for at in range(size))
        for n in range(12)
    }
    compiled = compile_text("extends: 0.yaml\n", also={**also, "12.yaml": AGG})
    (found,) = compiled.diagnostics
    assert (found.rule, found.primary.span.file) == ("extends", "9.yaml")
    assert found.message == "with 10.yaml, the profile is larger than one file may be"
    assert set(compiled.sources) == {"profile.yaml", *(f"{n}.yaml" for n in range(11))}
