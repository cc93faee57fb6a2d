"""How each combination of topology and mode stands on a stack: run, refused, or on paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from compiler.document import Json
from compiler.stacks.stack import KnownIssue, Run, Stack
from compiler.topology import Accelerator, CacheMode, TopologyKind


class Standing(str, Enum):
    """What is known of a combination."""

    RUN = "run"
    REFUSED = "refused"
    ON_PAPER = "on paper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """A topology with LMCache in one of its modes; in disagg it stands beside NIXL."""

    topology: TopologyKind
    mode: CacheMode

    def __str__(self) -> str:
        """Return its words in a profile."""
        return f"{self.topology.value} {self.mode.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a stack says of one combination: how it was run, or which of its cases refuses it."""

    combination: Combination
    run: Run | None = None
    case: KnownIssue | None = None

    @property
    def standing(self) -> Standing:
        """Return which of the three it is; a case that refuses it counts before a run."""
        if self.case is not None:
            return Standing.REFUSED
        return Standing.ON_PAPER if self.run is None else Standing.RUN

    @property
    def text(self) -> str:
        """Return it in a few words."""
        if self.run is not None:
            return f"run on {self.run.hardware}, {self.run.at} ({self.run.by})"
        return f"refused ({self.case.id})" if self.case is not None else self.standing.value


COMBINATIONS = tuple(
    Combination(topology=topology, mode=mode)
    for topology in (TopologyKind.AGG, TopologyKind.DISAGG)
    for mode in (CacheMode.MULTIPROCESS, CacheMode.IN_PROCESS)
)


def known(stack: Stack, accelerator: Accelerator, combination: Combination) -> Known:
    """Return how a combination stands; a case that refuses it counts before a run."""
    facts: dict[str, Json] = {
        "accelerator": accelerator.value,
        "topology": combination.topology.value,
        "mode": combination.mode.value,
        "lmcache": True,
    }
    for case in stack.cases:
        is_known = case.when.values.keys() <= facts.keys()  # whatever else a profile says
        if case.severity == "error" and is_known and case.when.matches(facts.get):
            return Known(combination=combination, case=case)
    for run in stack.platforms[accelerator.value].runs:
        if (run.topology, run.mode) == (combination.topology.value, combination.mode.value):
            return Known(combination=combination, run=run)
    return Known(combination=combination)


def all_known(stack: Stack, accelerator: Accelerator) -> Iterator[Known]:
    """Return how every combination stands."""
    for combination in COMBINATIONS:
        yield known(stack, accelerator, combination)
