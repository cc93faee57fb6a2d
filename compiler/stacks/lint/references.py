"""What data files may name outside of themselves, and how a name that leads nowhere is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compiler.diagnostic import Diagnostic, Rule, Severity, Span, suggestion
from compiler.document import Document, Json, Path
from compiler.load.yaml_tree import lines_of
from compiler.stacks.placeholders import WORD

RULE = Rule("unknown-reference", Severity.ERROR)
VLLM, VARIABLES, LMCACHE = "vllm", "vllm-env", "lmcache-config"
CATALOGUES = {VLLM: "options", VARIABLES: "names", LMCACHE: "options"}
"""The catalogues that every stack must have, and where each lists its names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What ships beside a data file; each callable takes a name, and gives text."""

    schema: Callable[[str], Mapping[str, Any]]
    stack_names: tuple[str, ...]
    stack_text: Callable[[str], str]
    tier_names: tuple[str, ...]
    catalogue_names: Callable[[str], Collection[str]]
    catalogue_text: Callable[[str, str], str]

    def names(self, stack: str, catalogue: str) -> frozenset[str]:
        """Return what a catalogue of a stack lists; empty where there is none."""
        if catalogue not in self.catalogue_names(stack):
            return frozenset()
        return frozenset(json.loads(self.catalogue_text(stack, catalogue))[CATALOGUES[catalogue]])

    def tier_options(self, kind: str) -> Collection[str]:
        """Return the options of a kind of tier, as profiles write them."""
        tiers = self.schema("profile.schema.json")["properties"]["lmcache"]["properties"]["tiers"]
        options: Collection[str] = tiers["items"]["properties"][kind]["properties"]
        return options


def unknown(  # noqa: PLR0913 -- a diagnostic has this many parts
    span: Span, message: str, why: str, *, name: str, known: Collection[str], otherwise: str
) -> Diagnostic:
    """Build the diagnostic of a name that leads nowhere; otherwise: the fix if none is near."""
    near = suggestion(name, sorted(known))
    return RULE.at(
        span,
        message,
        fix=f"write {near}" if near else otherwise,
        label=f"did you mean {near}?" if near else "",
        why=why,
    )


def below(data: Any, pattern: Path, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Return where a pattern leads, with the values; "*" is every key or entry there is."""
    if not pattern:
        yield at, data
        return
    step, rest = pattern[0], pattern[1:]
    items = dict(enumerate(data)) if isinstance(data, list) else data
    if isinstance(items, dict):
        for key, value in items.items():
            if step in ("*", key):
                yield from below(value, rest, (*at, key))


def check_placeholders(
    document: Document, data: Json, pattern: Path, known: Collection[str]
) -> Iterator[Diagnostic]:
    """Report words in braces, in keys and values below a place, that nothing fills in."""
    for path, value in below(data, pattern):
        for span, text in _texts(document, value, path):
            for found in WORD.finditer(text):
                if found[1] not in known:
                    yield unknown(
                        _narrowed(document, span, found[0]),
                        f"nothing fills in {found[0]} here",
                        "a word in braces is filled in by the plan, which has other words here",
                        name=found[1],
                        known=known,
                        otherwise=f"write one of: {', '.join(sorted(known))}"
                        if known
                        else "remove it",
                    )


def _texts(document: Document, value: Json, path: Path) -> Iterator[tuple[Span, str]]:
    if isinstance(value, str):
        yield document.span(path), value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(document, item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield document.key_span((*path, key)), key
            yield from _texts(document, item, (*path, key))


def _narrowed(document: Document, span: Span, text: str) -> Span:
    """Return where a text first stands within a span, or the span."""
    lines = lines_of(document.sources[span.file])
    for line in range(span.line, span.end_line + 1):
        start = lines[line - 1].find(text, span.column - 1 if line == span.line else 0)
        if start >= 0:
            return Span(span.file, line, start + 1, line, start + 1 + len(text))
    return span
