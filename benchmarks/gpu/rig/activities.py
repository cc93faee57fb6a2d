"""What a trace of torch's profiler holds: copies in bursts, kernels, calls and annotations."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]
BURST_US = 30_000
"""Copies of one kind further apart than this belong to two prompts."""
WORTH_BYTES = 1 << 20
LONGEST = 8


def summary(path: Path) -> dict[str, Any]:
    """Return bursts of copies by kind, kernels, and where calls and annotations spent their time.

    Units: milliseconds, but for gb_per_s.
    """
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    events = [event for event in json.loads(text)["traceEvents"] if event.get("ph") == "X"]
    copies: dict[str, list[Event]] = {}
    for event in _of(events, "gpu_memcpy"):
        copies.setdefault(_kind(event), []).append(event)
    kernels = sorted(_of(events, "kernel"), key=lambda event: event["ts"])
    return {
        "events": len(events),
        "copies": {kind: _bursts(sorted(held, key=_began)) for kind, held in copies.items()},
        "kernels": [_burst(burst) for burst in _split(kernels)],
        "calls": _longest(_of(events, "cuda_runtime", "cuda_driver")),
        "annotations": _longest(_of(events, "user_annotation")),
        "operators": _longest(_of(events, "cpu_op")),
    }


def _of(events: Iterable[Event], *categories: str) -> list[Event]:
    return [event for event in events if event.get("cat") in categories]


def _began(event: Event) -> float:
    return float(event["ts"])


def _kind(event: Event) -> str:
    """Return how a copy goes; "Memcpy HtoD (Pinned -> Device)" is such a name."""
    return str(event["name"]).removeprefix("Memcpy ")


def _bursts(copies: Sequence[Event]) -> list[dict[str, Any]]:
    found = [_burst(burst) for burst in _split(copies)]
    return [burst for burst in found if burst["bytes"] >= WORTH_BYTES]


def _split(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Cut events, sorted by their begin, where nothing ran for long."""
    burst: list[Event] = []
    ended = 0.0
    for event in events:
        if burst and event["ts"] - ended > BURST_US:
            yield burst
            burst, ended = [], 0.0
        burst.append(event)
        ended = max(ended, event["ts"] + event["dur"])
    if burst:
        yield burst


def _burst(burst: Sequence[Event]) -> dict[str, Any]:
    """Return one burst: from its first begin to its last end, what of it was busy, and the gaps."""
    gaps, reached = [], _began(burst[0])
    for event in burst:
        if event["ts"] > reached:
            gaps.append(event["ts"] - reached)
        reached = max(reached, event["ts"] + event["dur"])
    window = reached - _began(burst[0])
    count = sum(int(event.get("args", {}).get("bytes", 0)) for event in burst)
    found = {
        "number": len(burst),
        "bytes": count,
        "window_ms": round(window / 1000, 3),
        "busy_ms": round((window - sum(gaps)) / 1000, 3),
        "gaps_ms": round(sum(gaps) / 1000, 3),
        "longest_gap_ms": round(max(gaps, default=0) / 1000, 3),
    }
    return {**found, "gb_per_s": round(count / window / 1000, 2) if window else 0}


def _longest(events: Iterable[Event]) -> dict[str, dict[str, float]]:
    """Sum events up by name; give those that took longest."""
    found: dict[str, list[float]] = {}
    for event in events:
        found.setdefault(str(event["name"])[:80], []).append(float(event["dur"]))
    names = sorted(found, key=lambda name: -sum(found[name]))[:LONGEST]
    return {
        name: {
            "number": len(found[name]),
            "ms": round(sum(found[name]) / 1000, 3),
            "longest_ms": round(max(found[name]) / 1000, 3),
        }
        for name in names
    }
