"""The result of `dync verify`: findings, and what was measured on the way."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.deploy.finding import Finding, Verdict, worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds to the first token of one prompt of `tokens` tokens, new and repeated.

    through: the frontend, or the worker that was asked directly.
    """

    through: str
    tokens: int
    cold_s: float
    warm_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What NIXL brought to one worker during the proof: bytes, transfers, their seconds."""

    worker: str
    moved_bytes: float
    moves: float
    moved_s: float

    @property
    def bytes_per_s(self) -> float | None:
        """Return the rate; None where nothing moved."""
        return self.moved_bytes / self.moved_s if self.moved_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessProof:
    """The verdict on one process."""

    name: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A whole deployment: what was found, in the order it was looked at, and measured.

    is_switched: whether a launch-time switch makes what runs differ from what was built.
    """

    name: str
    url: str
    manager: str
    findings: tuple[Finding, ...]
    processes: tuple[ProcessProof, ...]
    timings: tuple[Timing, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    is_switched: bool = False
    took_s: float

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on the whole."""
        return worst(self.findings)

    @property
    def is_proved(self) -> bool:
        """Whether the deployment was seen to do what it was built for."""
        return self.verdict in (Verdict.PASS, Verdict.WARN)
