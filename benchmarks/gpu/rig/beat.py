"""What people write by hand against what dync emits, on two GPUs, and what dync may choose.

A wave is some deployments side by side, asked in turn; each is asked more than once, in changed
order. Everything measured is a line of OUT/beat.jsonl at once. Where BEAT_UNTIL says when the time
is over, in seconds since 1970, what would come later is left out, and all is stopped as it should.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import page, prove
from benchmarks.gpu.rig.beat_load import (
    ON_CPU,
    Book,
    Deployment,
    Sizes,
    deployment,
    fill,
    first_tokens,
    following,
    left_s,
    shared_prefix,
    working_set,
)
from benchmarks.gpu.rig.bundle import launched
from benchmarks.gpu.rig.kit import Kit
from benchmarks.gpu.rig.load import one
from benchmarks.gpu.rig.prompts import text
from benchmarks.gpu.rig.truth import dync

WAVES: Mapping[str, tuple[str, ...]] = {
    "beat-disagg": ("page-disagg", "beat-disagg", "beat-disagg-128-eager"),
    "beat-agg": ("page-agg", "beat-agg", "beat-agg-64-threads-eager"),
    "beat-blocks": ("beat-disagg-128", "beat-disagg-256", "beat-disagg-128-nhd"),
    "beat-one": (
        "beat-one",
        "beat-one-64",
        "beat-one-128",
        "beat-one-hnd",
        "beat-one-eager",
        "beat-one-64-chunk-1024",
    ),
    "beat-threads": ("beat-agg-threads", "beat-agg-eager", "beat-agg-128-threads-eager"),
    "beat-nixl": ("beat-disagg-256-eager", "beat-disagg-128-nixl-8", "beat-disagg-128-sync"),
}
"""The forms of the page, and bundles; as many workers as fit on two GPUs of 80 GB."""
REHEARSED = ("page-disagg", "beat-disagg")
TURNS, TURNS_OF_PAGE = 4, 2
"""Of the working set; the page's forms take so long for one that more would cost the others."""
SERVES_WITHIN_S, ON_CPU_WITHIN_S = 240, 900
WORTH_A_START_S = 130


def wave(name: str) -> Callable[[Kit, Path], Any]:
    """Return the suite of a wave."""
    return lambda kit, logs: _run(kit, logs, WAVES[name] if kit.on_gpu else REHEARSED)


def chosen(kit: Kit, logs: Path) -> Any:
    """Run the wave of the names in BEAT, which is how the best so far is checked against others."""
    return _run(kit, logs, os.environ["BEAT"].split())


def right(kit: Kit, logs: Path) -> dict[str, Any]:
    """Show that what the waves choose answers as an engine without a cache does."""
    return prove.run_those(kit, logs, kit.proved_beat)


def _run(kit: Kit, logs: Path, names: Sequence[str]) -> dict[str, Any]:
    if left_s() < WORTH_A_START_S:
        return {"skipped": "too little time is left"}
    book = Book(logs.parents[1] / "beat.jsonl", logs.name, threading.Lock())
    by_hand = [name for name in names if name in page.FORMS]
    with ExitStack() as stack:
        starting = [stack.enter_context(page.started(kit, name, logs)) for name in by_hand]
        within_s = SERVES_WITHIN_S if kit.on_gpu else ON_CPU_WITHIN_S
        built = [name for name in names if name not in by_hand]
        serving = stack.enter_context(launched(built, logs, within_s))
        found = [each for future in starting if (each := future.result())]
        found += [deployment(item) for item in serving]
        for each in found:
            book.note("ready", each.name, ready_s=each.ready_s)
        for name in set(names) - {each.name for each in found}:
            book.note("failed", name, error="does not serve")
        return _measure(kit, _answering(found, kit, book), book)


def _answering(found: Sequence[Deployment], kit: Kit, book: Book) -> list[Deployment]:
    """Leave out what does not answer the longest prompt, so that the others are measured."""
    held = []
    for each in found:
        try:
            one(each.served, text(_sizes(kit).lengths[-1], f"first-{each.name}"))
            held.append(each)
        except (OSError, RuntimeError, ValueError) as error:
            book.note("failed", each.name, error=repr(error))
    return held


def _sizes(kit: Kit) -> Sizes:
    return Sizes() if kit.on_gpu else ON_CPU


def _measure(kit: Kit, served: Sequence[Deployment], book: Book) -> dict[str, Any]:
    sizes = _sizes(kit)
    is_pair = any(each.name in page.FORMS for each in served)
    first_tokens(served, sizes, book)
    slow: set[str] = set()
    _in_lanes(served, partial(fill, sizes=sizes, book=book, slow=slow))
    for turn in range(TURNS if kit.on_gpu else 2):
        ended = {*slow, *(page.FORMS if turn >= TURNS_OF_PAGE else ())}
        asked = [each for each in served if each.name not in ended]
        act = partial(working_set, sizes=sizes, book=book, turn=turn)
        _in_lanes(list(reversed(asked)) if turn % 2 else asked, act)
    for turn in range(2 if is_pair else 1):
        act = partial(following, sizes=sizes, book=book, turn=turn)
        _in_lanes(list(reversed(served)) if turn % 2 else served, act)
    if is_pair:
        asked = [each for each in served if each.name not in slow]
        _in_lanes(asked, partial(shared_prefix, sizes=sizes, book=book))
    for each in served:
        if each.name not in page.FORMS and left_s() > 0:
            said = dync(kit, "verify", each.name)
            book.note("verify", each.name, status=said["status"], said=_short(said["result"]))
    return {each.name: {"ready_s": each.ready_s} for each in served}


def _in_lanes(served: Sequence[Deployment], act: Callable[[Deployment], None]) -> None:
    """Do it to each in turn; deployments of one GPU each go beside those of the other GPU."""
    lanes: dict[tuple[int, ...], list[Deployment]] = {}
    for each in served:
        lanes.setdefault(each.gpus, []).append(each)
    if not all(len(gpus) == 1 for gpus in lanes):
        lanes = {(): list(served)}

    def follow(lane: Sequence[Deployment]) -> None:
        for each in lane:
            if left_s() > 0:
                act(each)

    with ThreadPoolExecutor(len(lanes) or 1) as pool:
        list(pool.map(follow, lanes.values()))


def _short(result: Mapping[str, Any]) -> Any:
    """Return what verify found, without what passed silently."""
    if "findings" not in result:
        return result
    return [
        f"{item['verdict']} {item['subject']}: {item['message']}"
        for item in result["findings"]
        if item["check"] not in ("as-built", "log") or item["verdict"] != "pass"
    ]
