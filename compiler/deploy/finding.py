"""What a look at a host or a running deployment finds: one fact, its verdict, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """How a fact stands; only FAIL makes a command end with 1."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"  # could not be looked at; the message says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact. check: its stable kebab-case id; subject: the process, port or path it is about."""

    check: str
    subject: str
    verdict: Verdict
    message: str
    fix: str = ""

    @property
    def line(self) -> str:
        """Return the fact as one line, and after it what to do."""
        what = self.message if self.subject in self.message else f"{self.subject}: {self.message}"
        return f"{what}: {self.fix}" if self.fix else what


def passed(check: str, subject: str, message: str) -> Finding:
    """Return a fact that is as it should be."""
    return Finding(check=check, subject=subject, verdict=Verdict.PASS, message=message)


def warned(check: str, subject: str, message: str, fix: str) -> Finding:
    """Return a fact that works and costs something."""
    return Finding(check=check, subject=subject, verdict=Verdict.WARN, message=message, fix=fix)


def failed(check: str, subject: str, message: str, fix: str) -> Finding:
    """Return a fact that must be fixed."""
    return Finding(check=check, subject=subject, verdict=Verdict.FAIL, message=message, fix=fix)


def skipped(check: str, subject: str, message: str, fix: str = "") -> Finding:
    """Return a fact that could not be looked at."""
    return Finding(check=check, subject=subject, verdict=Verdict.SKIP, message=message, fix=fix)


def worst(findings: Iterable[Finding]) -> Verdict:
    """Sum findings up: fail before warn before pass; skip only where nothing was seen."""
    seen = {finding.verdict for finding in findings}
    order = (Verdict.FAIL, Verdict.WARN, Verdict.PASS)
    return next((verdict for verdict in order if verdict in seen), Verdict.SKIP)
