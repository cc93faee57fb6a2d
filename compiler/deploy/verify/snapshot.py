"""The counters of several processes at one moment, and how they grew since another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compiler.deploy.probe.counters import Counters, read_counters
from compiler.process import Process, ProcessName

SETTLED_S = 6.0
"""So long after an answer its counters and stored chunks may still grow."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters by process; one that did not answer is left out."""

    counters: Mapping[ProcessName, Counters]

    def __contains__(self, name: ProcessName) -> bool:
        return name in self.counters

    def grown(self, before: Snapshot, name: ProcessName, metric: str) -> float | None:
        """Return by how much a process's metric grew; None where it is not known."""
        if name not in self or name not in before:
            return None
        return self.counters[name].grown(before.counters[name], metric)


def snapshot(processes: Sequence[Process]) -> Snapshot:
    """Read the counters of processes."""
    found = ((process.name, read_counters(process.metrics)) for process in processes)
    return Snapshot({name: counters for name, counters in found if counters is not None})


def settled_snapshot(
    processes: Sequence[Process],
    complete: Callable[[Snapshot], bool],
    within_s: float = SETTLED_S,
) -> Snapshot:
    """Read counters until they are complete, or long enough after an answer."""
    give_up = time.monotonic() + within_s
    while True:
        now = snapshot(processes)
        if complete(now) or time.monotonic() > give_up:
            return now
        time.sleep(_POLL_S)
