"""Build a rule's diagnostics."""

from __future__ import annotations

from compiler.diagnostic import Diagnostic, Label, Severity, Span


def finding(  # noqa: PLR0913, PLR0917 -- a diagnostic has this many parts
    rule: str,
    severity: Severity,
    why: str,
    span: Span,
    message: str,
    fix: str,
    *,
    label: str = "",
    related: tuple[Label, ...] = (),
) -> Diagnostic:
    """Build one diagnostic of a rule."""
    return Diagnostic(
        rule=rule,
        severity=severity,
        message=message,
        primary=Label(span=span, text=label),
        why=why,
        fix=fix,
        related=related,
    )
