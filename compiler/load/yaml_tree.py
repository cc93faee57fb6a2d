"""Read YAML text into a tree that knows where every key and value was written.

Of PyYAML only the event parser is used: building the tree from events bounds depth and size, so
that no input can exhaust the stack, and keeps every mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import yaml

from compiler.diagnostic import MOST_FOUND, Diagnostic, Label, Outcome, Rule, Severity, Span
from compiler.document import PROFILE, Document, Node
from compiler.load.scalars import Fault, read_scalar
from compiler.load.secrets import is_secret
from compiler.load.syntax import not_allowed, refused, syntax_rule

MAX_DEPTH = 40
MAX_NODES = 200_000
MAX_ENTRIES = 10_000
"""Of one list or mapping: as many workers as a deployment can have."""

_KEY = Rule("yaml-key", Severity.ERROR)
_DUPLICATE_KEY = Rule(
    "duplicate-key", Severity.ERROR, "YAML readers keep the last of two equal keys in silence"
)
_AMBIGUOUS = Rule("yaml-ambiguous-scalar", Severity.ERROR)

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# yaml.reader.Reader.NON_PRINTABLE of PyYAML 6, which is YAML 1.1's c-printable; without the three
# characters that break a line in YAML 1.1 and not in 1.2, so that all readers count the same lines.
_NOT_PRINTABLE = re.compile(
    "[^\x09\x0a\x0d\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")  # what escapes in quotes can still bring in
_LINE_BREAK = re.compile("\r\n?|\n")


def load(text: str, name: str, what: str = PROFILE) -> Outcome[Document]:
    """Read one YAML text into a Document; what: as diagnostics call it.

    Errors: every syntax error, duplicate key, ambiguous scalar, tag or oversize is a Diagnostic.
    Source: PyYAML 6.0 yaml/events.py; YAML 1.2.2 section 10.3.2.
    """
    bad = _NOT_PRINTABLE.search(text)
    if bad:
        before = lines_of(text[: bad.start()])
        return Outcome(None, (not_allowed(syntax_rule(what), bad[0], before, name),))
    builder = _Builder(name, what)
    found = builder.diagnostics
    try:
        for event in events_of(text):
            if not builder.take(event) or len(found) >= MOST_FOUND:
                break
    except yaml.MarkedYAMLError as error:
        found.append(refused(builder.syntax, error, lines_of(text), name))
    if builder.root is None and not found:
        span = Span(name, 1, 1, 1, 1)
        fix = "write one with: dync init" if what == PROFILE else "copy one that ships with dync"
        found.append(builder.syntax.at(span, f"the {what} is empty", fix=fix))
    if builder.root is None or found:
        return Outcome(None, tuple(found))
    sources = {name: text}
    return Outcome(Document(root=builder.root, sources=sources, what=what, size=builder.size))


def parse_data(text: str) -> Any:
    """Read YAML that belongs to the program itself (a stack): no positions, no diagnostics."""
    return yaml.load(text, Loader=_Loader)


def lines_of(text: str) -> list[str]:
    """Split a source into its lines as YAML counts them."""
    return _LINE_BREAK.split(text)


def events_of(text: str) -> Iterator[Any]:
    """Read YAML text as PyYAML's events.

    Errors: yaml.YAMLError.
    """
    return iter(yaml.parse(text, Loader=_Loader))


@dataclass(slots=True, eq=False)
class _Open:
    """A collection whose end has not come; key: the one that waits for its value."""

    span: Span
    is_mapping: bool
    anchor: str | None
    items: list[Node] = field(default_factory=list)
    values: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Span] = field(default_factory=dict)
    key: tuple[str, Span] | None = None

    @property
    def awaits_key(self) -> bool:
        """Whether what comes next is a key."""
        return self.is_mapping and self.key is None

    def put(self, node: Node) -> None:
        """Add an item, or the value of the key that waits."""
        if self.key is None:
            self.items.append(node)
        else:
            key, span = self.key
            self.values[key], self.keys[key], self.key = node, span, None

    def finished(self, end: Any) -> Node:
        """Return the collection as it stands at its end."""
        start = self.span
        span = Span(start.file, start.line, start.column, end.line + 1, end.column + 1)
        if not self.is_mapping:
            return Node(tuple(self.items), span)
        return Node(MappingProxyType(self.values), span, MappingProxyType(self.keys))


class _Builder:
    """Collects events into nodes on an explicit stack."""

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        self.what = what
        self.syntax = syntax_rule(what)
        self.root: Node | None = None
        self.size = 0
        self.diagnostics: list[Diagnostic] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | _Open] = {}
        self._measures: dict[int, tuple[int, int]] = {}

    def take(self, event: Any) -> bool:
        """Add one event; False ends the reading."""
        if isinstance(event, yaml.ScalarEvent):
            return self._add(self._scalar(event), event.anchor)
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            return self._begin(event)
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            return self._end(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            fix = "keep one document in the file"
            self._refuse(self._span(event), "a second YAML document starts here", fix)
            return False
        return True

    def _refuse(self, span: Span, message: str, fix: str) -> None:
        self.diagnostics.append(self.syntax.at(span, message, fix=fix))

    def _span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        return Span(self.name, start.line + 1, start.column + 1, end.line + 1, end.column + 1)

    def _begin(self, event: Any) -> bool:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        opened = _Open(self._span(event), is_mapping, event.anchor)
        if event.tag is not None and not event.implicit:
            self._tag(event)
        if not self._counts(1, opened.span):
            return False
        if opened.anchor:
            self._anchors[opened.anchor] = opened
        if self._open and self._open[-1].awaits_key:
            return self._no_key(opened.span, "mapping" if is_mapping else "list")
        self._open.append(opened)
        if len(self._open) > MAX_DEPTH:
            self._too_large(opened.span, f"nested deeper than {MAX_DEPTH} levels")
            return False
        return True

    def _end(self, event: Any) -> bool:
        opened = self._open.pop()
        node = opened.finished(event.end_mark)
        if opened.anchor and self._anchors[opened.anchor] is opened:
            self._anchors[opened.anchor] = node
        return self._put(node)

    def _add(self, node: Node, anchor: str | None, size: int = 1) -> bool:
        """Put a finished node into the open collection, as a key, a value or an item."""
        if not self._counts(size, node.span):
            return False
        if anchor:
            self._anchors[anchor] = node
        return self._put(node)

    def _put(self, node: Node) -> bool:
        if not self._open:
            self.root = node
            return True
        parent = self._open[-1]
        if parent.awaits_key:
            return self._key(parent, node)
        parent.put(node)
        return self._has_room(parent, node.span)

    def _has_room(self, parent: _Open, span: Span) -> bool:
        """Return whether a collection is no larger than one may be."""
        if max(len(parent.items), len(parent.values)) <= MAX_ENTRIES:
            return True
        what = "mapping" if parent.is_mapping else "list"
        message = f"the {self.what} has a {what} of more than {MAX_ENTRIES} entries"
        fix = f"write a smaller {what}"
        if not parent.is_mapping:
            fix += "; workers that are alike are one entry with replicas"
        self._refuse(span, message, fix)
        return False

    def _counts(self, size: int, span: Span) -> bool:
        """Count nodes; False where they are too many."""
        self.size += size
        if self.size > MAX_NODES:
            self._too_large(span, f"larger than {MAX_NODES} values")
        return self.size <= MAX_NODES

    def _too_large(self, span: Span, size: str) -> None:
        self._refuse(span, f"the {self.what} is {size}", f"write a smaller {self.what}")

    def _key(self, parent: _Open, node: Node) -> bool:
        if not isinstance(node.value, str):
            kinds: dict[type, str] = {MappingProxyType: "mapping", tuple: "list"}
            return self._no_key(node.span, kinds.get(type(node.value)))
        key = node.value
        if key in parent.values:
            self.diagnostics.append(
                _DUPLICATE_KEY.at(
                    node.span,
                    f"key {key!r} stands twice in the same mapping",
                    fix="remove one of the two",
                    label="again here",
                    related=(Label(span=parent.keys[key], text="first here"),),
                )
            )
        parent.key = (key, node.span)
        return True

    def _no_key(self, span: Span, collection: str | None) -> bool:
        """Report what stands for a key and is no text; collection: its kind, if it is one."""
        if not self.diagnostics:
            what = f"a {collection}" if collection else "a number, a truth value or nothing"
            fix = "write a plain word, or quote it"
            if collection:
                fix = "write a plain word; quote a value that begins with { or ["
            why = f"every key of a {self.what} is a word of the schema or a name"
            message = f"{what} stands where a key must be"
            self.diagnostics.append(_KEY.at(span, message, fix=fix, why=why))
        return False

    def _alias(self, event: Any) -> bool:
        target = self._anchors.get(event.anchor)
        if target is None or isinstance(target, _Open):
            message = f"alias *{event.anchor} names no finished value above it"
            self._refuse(self._span(event), message, "write the value out")
            return False
        size, depth = self._measure(target)
        if len(self._open) + depth > MAX_DEPTH:
            self._too_large(self._span(event), f"nested deeper than {MAX_DEPTH} levels")
            return False
        return self._add(target, None, size + 1)

    def _measure(self, node: Node) -> tuple[int, int]:
        """Return size and depth of a shared node, as if it were written out; each measured once."""
        if id(node) not in self._measures:
            sizes = [self._measure(child) for child in node.children()]
            self._measures[id(node)] = (
                1 + sum(size for size, _ in sizes),
                1 + max((depth for _, depth in sizes), default=0),
            )
        return self._measures[id(node)]

    def _tag(self, event: Any) -> None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!", 1)
        message = f"YAML tag {tag} is not used in a {self.what}"
        self._refuse(self._span(event), message, "remove the tag; quote the value if it is text")

    def _scalar(self, event: Any) -> Node:
        span, text = self._span(event), event.value
        plain = event.style is None or event.style == ""
        if event.tag is not None and not (event.implicit[0] or event.implicit[1]):
            self._tag(event)
        if _NOT_TEXT.search(text):
            message = "a NUL or half of a surrogate pair cannot stand in a command line"
            self._refuse(span, message, "remove it")
        if not plain:
            return Node(text, span)
        value = read_scalar(text)
        if isinstance(value, Fault):
            key = self._open[-1].key if self._open else None
            fix = "write it in quotes" if key and is_secret(key[0]) else value.fix
            fault = _AMBIGUOUS.at(span, value.message, fix=fix, why=value.why)
            self.diagnostics.append(fault)
            return Node(text, span)
        return Node(value, span)
