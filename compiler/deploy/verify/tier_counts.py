"""See whether each storage tier behind a cache receives what the cache stores.

A tier is read only when host memory no longer has a prompt, and verify takes nothing away from a
running cache: so it sees a tier written, and says what it saw.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compiler.deploy.finding import Finding, failed, passed, skipped, warned
from compiler.deploy.probe.counters import read_counters
from compiler.deploy.probe.services import password_of, redis_keys
from compiler.deploy.probe.sockets import Ownership
from compiler.errors import ProbeError
from compiler.plan import Plan
from compiler.process import Kind, Process, ProcessName, Tier
from compiler.stacks.tier_specs import TierSpecs
from compiler.write.trees import walk

Measure = Callable[[Process, Tier, Ownership], int]
"""Count what a tier of a process holds now; the tier is the plan's own value.

A password is sent to a server of the deployment's own only where nobody else holds its port.

Errors: ProbeError, where it cannot be counted; the text says why.
"""
_FIX = "see what is wrong with it: dync doctor BUNDLE"
_SETTLED_S = 5.0
"""So long after an answer a tier may still be written."""
Counts = Mapping[tuple[ProcessName, int], int]
"""What was counted, by process and the place of its tier."""


def _files(process: Process, tier: Tier, _own: Ownership) -> int:
    """Count the files below a tier's folder."""
    folder = Path(tier.folder)
    if not folder.is_dir():
        raise ProbeError(f"there is no folder {folder}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ProbeError(f"{folder} may be read by {process.name}'s account only")
    return sum(len(files) for _, _, files in walk(str(folder)))


def _keys(process: Process, tier: Tier, own: Ownership) -> int:
    """Count the keys of a server that speaks Redis' protocol."""
    server = tier.server
    if server is None:
        raise ProbeError("it has no server")
    password = password_of(process, server)
    return redis_keys(server.host, server.port, password, server.username, own)


def _stores(process: Process, _tier: Tier, _own: Ownership) -> int:
    """Count what a cache server has stored behind its memory."""
    counters = read_counters(process.metrics)
    if counters is None:
        raise ProbeError(f"the metrics of {process.name} do not answer")
    return int(counters.total("lmcache_mp_l2_store_completed_objects_chunks_total") or 0)


MEASURES: Mapping[str, Measure] = {"files": _files, "keys": _keys}
"""How to count what a tier holds, by the word that its spec has for it (counted_by)."""


def _measure_of(process: Process, tier: Tier, specs: TierSpecs) -> Measure | None:
    """Choose how to count a tier; a cache server's own counter tells no two tiers apart.

    A server that is reached by TLS has keys that only its own client counts.
    """
    spec = specs.get(tier.kind)
    word = spec.counted_by if spec else ""
    if word in MEASURES and (word != "keys" or tier.server is not None):
        return MEASURES[word]
    is_alone = process.kind is Kind.CACHE_SERVER and len(process.tiers) == 1
    return _stores if is_alone else None


def count_tiers(plan: Plan, specs: TierSpecs, own: Ownership) -> Counts:
    """Count what each tier holds now; one that cannot be counted is left out."""
    found = {}
    for process, at, tier in _each(plan.processes):
        measure = _measure_of(process, tier, specs)
        if measure is not None:
            try:
                found[process.name, at] = measure(process, tier, own)
            except ProbeError:
                continue
    return found


def judge_tiers(
    plan: Plan, specs: TierSpecs, before: Counts, own: Ownership, *, was_asked: bool
) -> Iterator[Finding]:
    """Judge every tier: it answers, and has more than before a new prompt, if one was stored."""
    give_up = time.monotonic() + _SETTLED_S
    for process, at, tier in _each(plan.processes):
        subject = f"{process.name} {tier.kind}"
        measure = _measure_of(process, tier, specs)
        if measure is None and tier.folder and not Path(tier.folder).is_dir():
            yield failed("tier", subject, f"{tier.place}: there is no folder {tier.folder}", _FIX)
            continue
        if measure is None:
            yield skipped("tier", subject, f"{tier.place}: nobody knows how to count what it holds")
            continue
        try:
            count = measure(process, tier, own)
            then = before.get((process.name, at))
            while was_asked and then is not None and count <= then and time.monotonic() < give_up:
                time.sleep(0.2)
                count = measure(process, tier, own)
        except ProbeError as refusal:
            yield failed("tier", subject, f"{tier.place}: {refusal}", _FIX)
            continue
        yield _judge(subject, tier, then, count, was_asked=was_asked)


def _judge(subject: str, tier: Tier, then: int | None, count: int, *, was_asked: bool) -> Finding:
    if not was_asked:
        return skipped("tier", subject, f"{tier.place} answers; no prompt was stored to show more")
    if then is None:
        return warned(
            "tier", subject, f"{tier.place} answers now, and did not before", "look again"
        )
    if count > then:
        return passed("tier", subject, f"{tier.place} got {count - then} objects of new prompts")
    return failed(
        "tier", subject, f"{tier.place} got nothing of a new prompt; it holds {count} objects",
        "see the log of its process: dync logs BUNDLE " + subject.split(" ", maxsplit=1)[0],
    )  # fmt: skip


def _each(processes: Iterable[Process]) -> Iterator[tuple[Process, int, Any]]:
    for process in processes:
        for at, tier in enumerate(process.tiers):
            yield process, at, tier
