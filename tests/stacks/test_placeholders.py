"""The words that data files may write in braces are those that the plan fills in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from compiler.document import Json
from compiler.library import load_stack
from compiler.process import ProcessName
from compiler.resolve import processes, workers
from compiler.resolve.prefilled import PrefilledWords
from compiler.resolve.tier_values import tier_values
from compiler.shipped_files import profile_schema
from compiler.stacks.placeholders import (
    CACHE_SERVER,
    EACH_WORKER,
    FRONTEND,
    PROCESS,
    TIER,
    WORKER,
    fill_argv,
)
from tests.stacks.support import topology_of
from tests.support import DISAGG, plan_of

Values = Mapping[str, Json]
TIERS = profile_schema()["properties"]["lmcache"]["properties"]["tiers"]["items"]["properties"]
PATHS = "path: /kv, size_gb: 9"
OPTIONS = {"disk": PATHS, "redis": "url: 'redis://h:1'", "nixl": f"backend: POSIX, {PATHS}"}


def test_each_process_has_the_words_that_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def spy(items: Iterable[Any], values: Values, each: Any = None) -> tuple[str, ...]:
        seen.append(set(values))
        seen.extend(set(worker) for role in (each or {}).values() for worker in role)
        return fill_argv(items, values, each)

    monkeypatch.setattr(processes, "fill_argv", spy)

    class Words(PrefilledWords):
        def filled(self, values: Values) -> tuple[str, ...]:
            seen.append(set(values))
            return super().filled(values)

    monkeypatch.setattr(workers, "PrefilledWords", Words)
    plan_of(DISAGG)
    listed = [
        {*PROCESS, *part} for part in (WORKER, CACHE_SERVER, {**FRONTEND, "metrics_port": ""})
    ]
    for words in (*listed, set(EACH_WORKER)):
        assert words in seen
    assert all(words in (*listed, set(EACH_WORKER)) for words in seen)


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_tier_has_its_options_and_the_words_that_are_listed(kind: str) -> None:
    topology = topology_of(f"lmcache: {{tiers: [{{{kind}: {{{OPTIONS[kind]}}}}}]}}\n")
    (choice,) = topology.lmcache.tiers
    spec = load_stack("vllm-0.32").tier_kinds[kind].modes["multiprocess"]
    assert set(tier_values(choice, spec, 1, ProcessName("lmcache"), 6379)) == {
        *TIERS[kind]["properties"],
        *TIER,
    }
