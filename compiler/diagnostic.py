"""What the compiler says about a profile: spans, labels, diagnostics, outcomes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")
MOST_SHOWN = 50
"""How many findings a person is shown at once."""
MOST_FOUND = 2_000
"""After how many findings reading, and then the schema's check, end: what is no profile at all."""


class Severity(str, Enum):
    """How much a diagnostic weighs; only ERROR stops the pipeline."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one source; lines and columns count from 1, the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A span and the few words shown beside it."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding: what is wrong, where, why, and the edit that fixes it.

    table: rows that compare two sides; the first row is their head.
    """

    rule: str
    severity: Severity
    message: str
    primary: Label
    why: str
    fix: str | None = None
    related: tuple[Label, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """What findings of one kind share: the id that users know, the weight, the reason.

    why: empty where no two places have the same reason; each then says its own.
    """

    id: str
    severity: Severity
    why: str = ""

    def at(  # noqa: PLR0913 -- a diagnostic has this many parts
        self,
        span: Span,
        message: str,
        *,
        fix: str | None = None,
        label: str = "",
        related: tuple[Label, ...] = (),
        table: tuple[tuple[str, ...], ...] = (),
        severity: Severity | None = None,
        why: str | None = None,
    ) -> Diagnostic:
        """Return a finding of this rule at a place; severity, why: where they differ there."""
        return Diagnostic(
            rule=self.id,
            severity=self.severity if severity is None else severity,
            message=message,
            primary=Label(span=span, text=label),
            why=self.why if why is None else why,
            fix=fix,
            related=related,
            table=table,
        )


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """A stage's value, or None where errors stopped it, and all it has to say."""

    value: T | None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def has_errors(self) -> bool:
        """Whether a diagnostic of severity ERROR is among them."""
        return has_errors(self.diagnostics)


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Return whether any diagnostic is an error."""
    return any(d.severity is Severity.ERROR for d in diagnostics)


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """Return the one known word nearest to a misspelt one, or None."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


@dataclass(slots=True)
class Suggestions:
    """Suggests words for one check, as many as are shown: each costs a look at every known one."""

    left: int = MOST_SHOWN

    def of(self, word: str, known: Iterable[str]) -> str | None:
        """Return the known word nearest to a misspelt one, or None; also once enough were made."""
        self.left -= 1
        return suggestion(word, known) if self.left >= 0 else None
