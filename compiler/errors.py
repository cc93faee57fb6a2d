"""The exceptions that cross modules: a bug, wrong data, what a host refuses, a silent probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.diagnostic import Diagnostic


class CompilerBug(Exception):
    """An impossible state: an earlier stage should have refused the input."""


class DataError(Exception):
    """A data file of the program that does not follow its schema: where, and its text by name."""

    def __init__(self, diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> None:
        super().__init__("\n".join(map(in_one_line, diagnostics)))
        self.diagnostics = diagnostics
        self.sources = sources


class HostError(Exception):
    """What cannot be done to a host; the text says why, and what to do."""


class ProbeError(Exception):
    """A service that does not serve, and whether it is the password."""

    def __init__(self, why: str, *, is_password: bool = False) -> None:
        super().__init__(why)
        self.is_password = is_password


def in_one_line(diagnostic: Diagnostic) -> str:
    """Return where a mistake is, and what."""
    at = diagnostic.primary.span
    return f"{at.file}:{at.line}:{at.column}: {diagnostic.message}"
