"""Print diagnostics: as text for people, or as JSON, GitHub commands or SARIF for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from compiler.diagnostic import Diagnostic
from compiler.report.hidden import hidden
from compiler.report.machine import as_github, as_json, as_sarif
from compiler.report.text import as_text, foremost, rest

Format = Callable[[Sequence[Diagnostic], Mapping[str, str]], str]
FORMATS: dict[str, Format] = {
    "text": as_text,
    "json": as_json,
    "github": as_github,
    "sarif": as_sarif,
}


def written(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str], style: str) -> str:
    """Write diagnostics in one of FORMATS; of a secret only the length shows."""
    shown = foremost(diagnostics) if style == "text" else diagnostics
    return FORMATS[style](*hidden(shown, sources)) + rest(diagnostics, shown)


def in_order(diagnostics: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Sort by place, errors of one place first, each finding once."""
    weights = {"error": 0, "warning": 1, "info": 2}
    unique = {(d.rule, d.primary.span, d.message): d for d in diagnostics}
    return sorted(
        unique.values(),
        key=lambda d: (
            d.primary.span.file,
            d.primary.span.line,
            d.primary.span.column,
            weights[d.severity.value],
            d.rule,
            d.message,
        ),
    )
