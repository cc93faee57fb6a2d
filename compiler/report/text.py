"""Diagnostics as text: one line that stands alone, the excerpt, the rule and the fix."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from compiler.diagnostic import MOST_SHOWN, Diagnostic, Label, Severity
from compiler.emit.quoting import comment
from compiler.load.yaml_tree import lines_of

MAX_LINE = 160
MAX_TEXT = 2000
Lines = Mapping[str, Sequence[str]]


def as_text(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> str:
    """Return all diagnostics as text, a blank line between them."""
    files = {label.span.file for found in diagnostics for label in (found.primary, *found.related)}
    lines = {file: lines_of(sources.get(file, "")) for file in files}
    return "\n".join("\n".join(_lines(found, lines)) + "\n" for found in diagnostics)


def foremost(diagnostics: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Return what is shown of diagnostics, in their order: of too many, errors before all else."""
    weights = list(Severity)
    places = sorted(range(len(diagnostics)), key=lambda at: weights.index(diagnostics[at].severity))
    return [diagnostics[at] for at in sorted(places[:MOST_SHOWN])]


def rest(diagnostics: Sequence[Diagnostic], shown: Sequence[Diagnostic]) -> str:
    """Say how many are not shown, by severity, and how to see them; nothing where all are."""
    if len(shown) == len(diagnostics):
        return ""
    left = Counter(found.severity for found in diagnostics)
    left.subtract(found.severity for found in shown)
    counts = (
        f"{left[kind]} {kind.value}{'s'[: left[kind] != 1]}" for kind in Severity if left[kind]
    )
    total = len(diagnostics) - len(shown)
    return f"\nand {total} more ({', '.join(counts)}): --format json shows all of them\n"


def _said(text: str) -> str:
    """Return text as it stands on one line of a terminal; of a very long one both its ends."""
    if len(text) > MAX_TEXT:
        text = f"{text[: MAX_TEXT - 300]}...{text[-300:]}"
    return comment(text)


def _lines(diagnostic: Diagnostic, sources: Lines) -> Iterator[str]:
    span = diagnostic.primary.span
    place = f"{span.file}:{span.line}:{span.column}"
    message = _said(diagnostic.message)
    yield f"{comment(place)}: {diagnostic.severity.value}: {message} [{diagnostic.rule}]"
    labels = [(label, "-") for label in diagnostic.related if label.span != span]
    labels.append((diagnostic.primary, "^"))
    labels.sort(key=lambda item: (item[0].span.file != span.file, item[0].span.line))
    width = max(len(str(label.span.line)) for label, _ in labels)
    gutter = " " * (width + 2) + "|"
    file = span.file
    for label, mark in labels:
        if label.span.file != file:
            file = label.span.file
            yield f"{' ' * (width + 1)}::: {comment(file)}:{label.span.line}:{label.span.column}"
        yield gutter
        yield from _excerpt(label, mark, width, sources)
    yield gutter
    if diagnostic.table:
        yield from (f"{gutter} {row}".rstrip() for row in _columns(diagnostic.table))
        yield gutter
    yield f"{' ' * (width + 2)}= rule: {_said(diagnostic.why)}"
    if diagnostic.fix:
        yield f"{' ' * (width + 2)}= fix:  {_said(diagnostic.fix)}"


def _columns(table: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """Align rows of three cells or more; a shorter one is a remark and sets no width."""
    rows = [tuple(map(_said, row)) for row in table]
    columns = itertools.zip_longest(*(row for row in rows if len(row) > 2), fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(cells if len(row) > 2 else row)


def _excerpt(label: Label, mark: str, width: int, sources: Lines) -> Iterator[str]:
    span = label.span
    lines = sources[span.file]
    line = lines[span.line - 1] if span.line <= len(lines) else ""
    end = span.end_column if span.end_line == span.line else len(line.split(" #")[0].rstrip()) + 1
    start = span.column - 1
    shown, offset = line, 0
    if len(line) > MAX_LINE:
        offset = max(0, start - 40)
        shown = line[offset : offset + MAX_LINE]
    length = max(1, min(end - 1 - offset, len(shown)) - (start - offset))
    pad = "".join("\t" if char == "\t" else " " for char in shown[: start - offset])
    text = f" {_said(label.text)}" if label.text else ""
    yield f" {span.line:>{width}} | {_visible(shown)}".rstrip()
    yield f"{' ' * (width + 2)}| {pad}{mark * length}{text}"


def _visible(line: str) -> str:
    return "".join(char if char == "\t" or char.isprintable() else "?" for char in line)
