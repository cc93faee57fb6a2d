"""Hide secrets of a profile in what is said of it: in its lines, and in every text beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from compiler.diagnostic import Diagnostic, Label
from compiler.load.secrets import is_hidden, is_secret, masked, stars, without_account
from compiler.load.yaml_tree import events_of, lines_of

_MAY_HOLD = ("pass", "pwd", "secret", "token", "credential", "key", "connection_string", "@")
_NO_COLON = re.compile(r"([ \t]*(?:- )?[\"']?([A-Za-z_][\w.-]{0,99})[\"']?[ \t]+)\S")
_MOST_VALUES = 200
_SURE = 20
"""So many first characters of a secret give it away in a text that was cut."""
_FILES = "secret_env"
"""The key below which files are named; who misreads it writes the secrets themselves there."""


@dataclass(slots=True)
class _Hidden:
    """Stretches of one text that hold secrets, by line and columns from 0, and the secrets."""

    stretches: list[tuple[int, int, int, int]] = field(default_factory=list)
    values: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Level:
    """An open collection of the walk; key: the one that waits for its value."""

    is_mapping: bool
    is_secret: bool
    key: str | None = None


class Masks:
    """What is hidden of the sources that diagnostics point into; shown: their lines, from 1.

    Of sources it keeps these lines alone: the others, of which there may be many, are empty.
    """

    def __init__(self, sources: Mapping[str, str], shown: Mapping[str, Set[int]]) -> None:
        self.sources: dict[str, str] = {}
        values: set[str] = set()
        for name, text in sources.items():
            self.sources[name], found = _source(name, text, shown.get(name, frozenset()))
            values |= found
        ways = {way for value in values for way in (value, repr(value)[1:-1])}
        self._values = sorted(ways, key=len, reverse=True)[:_MOST_VALUES]

    def of(self, diagnostic: Diagnostic) -> Diagnostic:
        """Return a diagnostic whose texts hold no secret."""
        fix = diagnostic.fix
        return replace(
            diagnostic,
            message=self._text(diagnostic.message),
            primary=self._label(diagnostic.primary),
            why=self._text(diagnostic.why),
            fix=None if fix is None else self._text(fix),
            related=tuple(map(self._label, diagnostic.related)),
            table=tuple(tuple(map(self._text, row)) for row in diagnostic.table),
        )

    def _label(self, label: Label) -> Label:
        return replace(label, text=self._text(label.text)) if label.text else label

    def _text(self, text: str) -> str:
        for value in self._values:
            if value[:_SURE] in text:
                text = _without(text, value)
        return masked(text)


def _without(text: str, value: str) -> str:
    """Hide a secret in a text, or its beginning where it was cut; a short one as a word alone."""
    done, parts = 0, []
    at = text.find(value[:_SURE])
    while at >= 0:
        end = at
        while end < len(text) and end - at < len(value) and text[end] == value[end - at]:
            end += 1
        around = text[at - 1 : at] + text[end : end + 1]
        hides = len(value) > 3 or not any(char.isalnum() for char in around)
        parts += [text[done:at], stars(text[at:end]) if hides else text[at:end]]
        done = end
        at = text.find(value[:_SURE], done)
    return "".join((*parts, text[done:]))


def _source(name: str, text: str, shown: Set[int]) -> tuple[str, set[str]]:
    """Return a source's shown lines, as long as they were, its secrets hidden; and the secrets."""
    folded = text.lower()
    if not any(word in folded for word in _MAY_HOLD):
        return text, set()
    key, equals, value = text.partition("=") if name.startswith("--set ") else ("", "", text)
    found = _Hidden()
    if equals and (is_secret(key.rpartition(".")[2].partition("[")[0]) or _FILES in key):
        return f"{key}={stars(value)}", {value.strip()} - {""}
    is_yaml = _walk(value, found)
    lines = lines_of(value)
    parts = _by_line(found.stretches, lines, shown)
    hide = masked if is_yaml else _broken_line
    kept = (
        hide(_without_parts(line, parts.get(number, []))) if number in shown else ""
        for number, line in enumerate(lines, 1)
    )
    return f"{key}{equals}" + "\n".join(kept), found.values


def _by_line(
    stretches: list[tuple[int, int, int, int]], lines: list[str], shown: Set[int]
) -> dict[int, list[tuple[int, int]]]:
    """Return what to hide of each shown line, from 1."""
    parts: dict[int, list[tuple[int, int]]] = {}
    for start, column, end, end_column in stretches:
        for number in range(start, min(end, len(lines) - 1) + 1):
            if number + 1 in shown:
                first = column if number == start else 0
                last = end_column if number == end else len(lines[number])
                parts.setdefault(number + 1, []).append((first, last))
    return parts


def _without_parts(line: str, parts: list[tuple[int, int]]) -> str:
    """Hide parts of a line in one pass: a line may be a whole profile, with thousands of them."""
    kept, done = [], 0
    for first, last in sorted(parts):
        if last > done:
            begin = max(first, done)
            kept += [line[done:begin], _starred(line[begin:last])]
            done = last
    return "".join((*kept, line[done:]))


def _broken_line(line: str) -> str:
    """Hide also what stands behind a secret's name without a colon."""
    words = _NO_COLON.match(line)
    if words and is_secret(words[2]):
        return words[1] + _starred(line[words.end(1) :])
    return masked(line)


def _starred(text: str) -> str:
    return "".join(char if char.isspace() else "*" for char in text)


def _walk(text: str, found: _Hidden) -> bool:
    """Find what stands under names of secrets, as far as the text is YAML; whether all of it is."""
    levels = [_Level(is_mapping=False, is_secret=False)]
    anchors: dict[str, Any] = {}
    try:
        for event in events_of(text.encode("utf-8", "replace").decode()):  # bytes of no text
            _take(event, levels, anchors, found)
    except yaml.YAMLError:
        return False
    return True


def _take(event: Any, levels: list[_Level], anchors: dict[str, Any], found: _Hidden) -> None:
    level = levels[-1]
    if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
        levels.pop()
        return
    if not isinstance(event, yaml.NodeEvent):
        return
    is_key = level.is_mapping and level.key is None
    under_secret = level.is_secret or (
        level.key is not None and (level.key == _FILES or is_secret(level.key))
    )
    level.key = getattr(event, "value", "") if is_key else None
    if isinstance(event, yaml.CollectionStartEvent):
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        levels.append(_Level(is_mapping=is_mapping, is_secret=under_secret and not is_key))
        return
    if isinstance(event, yaml.ScalarEvent) and event.anchor:
        anchors[event.anchor] = event
    scalar = anchors.get(event.anchor or "") if isinstance(event, yaml.AliasEvent) else event
    if scalar is not None and not is_key:
        found.values.update(_hide(scalar, under_secret, found))


def _hide(scalar: Any, under_secret: bool, found: _Hidden) -> Iterator[str]:
    """Note where a scalar holds a secret; return the secrets."""
    text, start, end = scalar.value, scalar.start_mark, scalar.end_mark
    quotes = 1 if scalar.style in ("'", '"') else 0
    if under_secret:
        if quotes or is_hidden(text):
            found.stretches.append(
                (start.line, start.column + quotes, end.line, max(0, end.column - quotes))
            )
            yield from (part for part in {text, text.strip()} if part)
    elif "@" in text:
        shown = without_account(text)
        if shown != text:
            secret = "".join(b for a, b in zip(shown, text, strict=True) if a != b or b == "*")
            found.stretches.append(
                (start.line, start.column + quotes + shown.find("*"), end.line,
                 start.column + quotes + shown.rfind("*") + 1 if start.line == end.line
                 else end.column)
            )  # fmt: skip
            yield secret


def hidden(
    diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]
) -> tuple[list[Diagnostic], Mapping[str, str]]:
    """Return diagnostics and sources without the secrets that stand in them."""
    shown: dict[str, set[int]] = {}
    for label in (label for d in diagnostics for label in (d.primary, *d.related)):
        shown.setdefault(label.span.file, set()).add(label.span.line)
    masks = Masks({name: text for name, text in sources.items() if name in shown}, shown)
    return [masks.of(found) for found in diagnostics], masks.sources
