"""The parts of one answer's wait, from what its processes wrote down on one clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """What a process did: its name of bin/, the function, ns since 1970, and what it gave."""

    process: str
    name: str
    began: int
    ended: int
    said: Any


@dataclass(frozen=True, slots=True)
class Window:
    """From sending a prompt to its first token, in ns since 1970."""

    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The end of a part: its name, whose span ends it, which of those, and its begin or end.

    of: the first words of a process's name. name: the spans' names, the first that occurs counts;
    of its spans the first.
    holds: which spans count, by what they gave.
    """

    part: str
    of: str
    name: tuple[str, ...]
    holds: Callable[[Any], bool] = lambda _said: True
    begin: bool = False


def _given(said: Any) -> bool:
    return said is not None


def _some(said: Any) -> bool:
    return bool(said)


FINISHED = ("get_finished", "get_finished_with_lazy_offload")
RETRIEVE = ("retrieve", "prepare_retrieve")
COPIED = ("mp.retrieve.end", "commit_retrieve", "retrieve")


def _cached(worker: str) -> tuple[Mark, ...]:
    """Return the parts of a worker that asks LMCache."""
    server = "lmcache"
    return (
        Mark("HTTP and tokens, before the engine", worker, ("add_request_async",)),
        Mark("to the engine core", worker, ("add_request",)),
        Mark("until the lookup is sent", worker, ("maybe_submit_lookup_request",)),
        Mark("until the server begins it", server, ("lookup",), begin=True),
        Mark("lookup in the server", server, ("lookup",)),
        Mark("until its answer is seen", worker, ("check_lookup_result",), _given),
        Mark(
            "schedule, until the copy is asked for",
            worker,
            ("batched_submit_retrieve_requests",),
            _some,
        ),
        Mark("until the server begins the copy", server, RETRIEVE, begin=True),
        Mark("until its stream is there", server, ("mp.retrieve.start",)),
        Mark("issued, while the first pieces are copied", server, RETRIEVE),
        Mark("copied", server, COPIED),
        Mark("until the engine sees it", worker, FINISHED, _some),
        Mark("until it is scheduled", worker, ("schedule",), _some),
        Mark("step issued", worker, ("execute_model",)),
        Mark("computed and sampled", worker, ("update_from_output",), _some),
    )


DECODE = (
    Mark("router and HTTP, before decode", "decode", ("add_request_async",)),
    Mark("to decode's engine core", "decode", ("add_request",)),
    Mark("decode: schedule, until NIXL is asked", "decode", ("_read_blocks_for_req",), begin=True),
    Mark("decode: pieces listed", "decode", ("make_prepped_xfer",)),
    Mark("decode: reads posted", "decode", ("transfer",)),
    Mark("decode: transfer, until it is seen", "decode", ("_pop_done_transfers",), _some),
    Mark("decode: until it is scheduled", "decode", ("schedule",), _some),
    Mark("decode: step issued", "decode", ("execute_model",)),
    Mark("decode: computed and sampled", "decode", ("update_from_output",), _some),
)
MARKS: Mapping[str, tuple[Mark, ...]] = {
    "agg": _cached("aggregated"),
    "disagg": (*_cached("prefill"), *DECODE),
}
BACK = "back to the client"


def parts(spans: Sequence[Span], window: Window, topology: str) -> list[dict[str, Any]]:
    """Return each part with its milliseconds and when it ended; together they are the whole.

    A part that overlaps an earlier one counts from the earlier one's end. What was not seen is
    left out, so that its time is in the next one; ended_ms is since the prompt was sent.
    """
    inside = [span for span in spans if window.began <= span.began <= window.ended]
    found: list[dict[str, Any]] = []
    reached = window.began
    for mark, span in _marked(inside, MARKS[topology]):
        at = min(max(span.began if mark.begin else span.ended, reached), window.ended)
        found.append(_part(mark.part, reached, at, window, span))
        reached = at
    return [*found, _part(BACK, reached, window.ended, window, None)]


def _marked(inside: Sequence[Span], marks: Sequence[Mark]) -> Iterator[tuple[Mark, Span]]:
    """Give the marks that were seen; each is sought from the begin of the one before it."""
    since = 0
    for mark in marks:
        held = [span for name in mark.name for span in _held(inside, mark, name, since)]
        if held:
            yield mark, held[0]
            since = max(since, held[0].began)


def _held(inside: Sequence[Span], mark: Mark, name: str, since: int) -> Iterator[Span]:
    for span in inside:
        is_of = span.process.startswith(mark.of) and span.name == name and span.began >= since
        if is_of and mark.holds(span.said):
            yield span


def phases(spans: Sequence[Span], window: Window) -> dict[str, dict[str, float]]:
    """Return what the cache server timed on its stream: copies, and waits of its kernels."""
    found: dict[str, list[Span]] = {}
    for span in spans:
        if span.name.startswith("phase ") and window.began <= span.began <= window.ended:
            found.setdefault(span.name, []).append(span)
    return {
        name: {
            "number": len(held),
            "ms": round(sum(span.said["ms"] for span in held), 3),
            "bytes": sum(span.said["bytes"] for span in held),
            "from_ms": round((held[0].began - window.began) / 1e6, 3),
            "to_ms": round((max(span.ended for span in held) - window.began) / 1e6, 3),
        }
        for name, held in found.items()
    }


def _part(name: str, began: int, at: int, window: Window, span: Span | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "part": name,
        "ms": round((at - began) / 1e6, 3),
        "ended_ms": round((at - window.began) / 1e6, 3),
    }
    return {**found, "said": span.said} if span is not None and span.said is not None else found
