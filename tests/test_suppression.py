"""`# dync: ignore[rule] reason`: what it leaves out, and what it does not."""

from __future__ import annotations

from compiler.diagnostic import Severity
from tests.support import compile_text

INFO = "in-process-full-graphs"
HEAD = """\
name: one
stack: vllm-0.25
topology: agg
model: {id: Qwen/Qwen3-0.6B}
"""
CACHE = "lmcache: {mode: in_process}"
WORKER = "workers: [{role: aggregated, gpus: [0]}]\n"
COMMENT = f"# dync: ignore[{INFO}] set on purpose"


def rules(text: str, **also: str) -> list[str]:
    return [found.rule for found in compile_text(text, also=also).diagnostics]


def test_comment_leaves_out_a_finding_of_its_line() -> None:
    assert rules(f"{HEAD}{CACHE}\n{WORKER}") == [INFO]
    compiled = compile_text(f"{HEAD}{CACHE} {COMMENT}\n{WORKER}")
    assert compiled.diagnostics == ()
    assert compiled.resolved is not None


def test_comment_of_another_line_or_rule_leaves_it() -> None:
    assert rules(f"{HEAD}{CACHE}\n{COMMENT}\n{WORKER}") == [INFO, "ignore-comment"]
    other = "# dync: ignore[gpu-overcommit] set on purpose"
    assert rules(f"{HEAD}{CACHE} {other}\n{WORKER}") == [INFO, "ignore-comment"]


def test_one_comment_names_several_rules() -> None:
    disk = "LMCACHE_LOCAL_DISK: '/a,/b', LMCACHE_MAX_LOCAL_DISK_SIZE: 9"
    env = f"{{{disk}, LMCACHE_REMOTE_CONFIG_URL: x}}"
    worker = f"workers: [{{role: aggregated, gpus: [0], env: {env}}}]"
    text = f"{HEAD}{CACHE} {COMMENT}\n{worker}"
    assert set(rules(f"{text}\n")) == {"lmcache-disk", "lmcache-settings"}
    assert rules(f"{text} # dync: ignore[lmcache-disk,  lmcache-settings] a test bed\n") == []


def test_comment_holds_in_the_file_where_the_line_is() -> None:
    """A profile that is extended may serve another, so nothing is said of what it does not need."""
    base = f"{HEAD}{CACHE} {COMMENT}\n{WORKER}"
    assert rules("extends: base.yaml\n", **{"base.yaml": base}) == []
    child = "extends: base.yaml\nlmcache: {mode: multiprocess}\n"
    assert rules(child, **{"base.yaml": base}) == []


def test_error_stays_and_stops() -> None:
    text = f"{HEAD}lmcache: {{chunk_size: 200}} # dync: ignore[chunk-size-alignment] yes\n{WORKER}"
    compiled = compile_text(text)
    assert compiled.resolved is None
    assert [(found.rule, found.severity) for found in compiled.diagnostics] == [
        ("chunk-size-alignment", Severity.ERROR),
        ("ignore-comment", Severity.WARNING),
    ]


def test_nothing_is_called_needless_before_every_rule_has_run() -> None:
    text = f"{HEAD}{CACHE} {COMMENT}\nworkers: [{{role: decode, gpus: [0]}}]\n"
    assert set(rules(text)) == {"roles", "lmcache-unused"}


def test_comment_inside_a_value_is_none() -> None:
    name = 'model: {id: Qwen/Qwen3-0.6B, served_name: "x # dync: ignore[roles] y"}'
    assert rules(HEAD.replace("model: {id: Qwen/Qwen3-0.6B}", name) + WORKER) == []
    block = "model:\n  id: Qwen/Qwen3-0.6B\n  served_name: |-\n    # dync: ignore[roles] y\n"
    assert rules(HEAD.replace("model: {id: Qwen/Qwen3-0.6B}\n", block) + WORKER) == []


def test_malformed_comment_stops_the_build() -> None:
    compiled = compile_text(f"{HEAD}{CACHE} # dync: ignore[{INFO}]\n{WORKER}")
    assert compiled.resolved is None
    assert [found.rule for found in compiled.diagnostics] == [INFO, "ignore-comment"]
