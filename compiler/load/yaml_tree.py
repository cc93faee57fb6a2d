"""Read YAML text into a tree that knows where every key and value was written.

Only this module knows PyYAML, and of it only the event parser: building the tree from events
bounds depth and size, so that no input can exhaust the stack, and keeps every mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from compiler.diagnostic import Diagnostic, Label, Outcome, Severity, Span
from compiler.document import PROFILE, Document, Node
from compiler.load.scalars import Fault, read_scalar

MAX_DEPTH = 40
MAX_NODES = 400_000

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# yaml.reader.Reader.NON_PRINTABLE of PyYAML 6, which is YAML 1.1's c-printable; without the three
# characters that break a line in YAML 1.1 and not in 1.2, so that all readers count the same lines.
_NOT_PRINTABLE = re.compile(
    "[^\x09\x0a\x0d\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_LINE_BREAK = re.compile("\r\n?|\n")
# Words of libyaml's messages, and what to do about them.
_SYNTAX_FIXES = (
    ("could not find expected ':'", "write KEY: VALUE, with a space after the colon"),
    ("mapping values are not allowed", 'indent it like its neighbours; quote text that holds ": "'),
    ("quoted scalar", "close the quote"),
    ("flow sequence", "close the list with ]"),
    ("flow mapping", "close the mapping with }"),
    ("block mapping", "indent it like its neighbours"),
)


def load(text: str, name: str, what: str = PROFILE) -> Outcome[Document]:
    """Read one YAML text into a Document; what: as diagnostics call it.

    Errors: every syntax error, duplicate key, ambiguous scalar, tag or oversize is a Diagnostic.
    Source: PyYAML 6.0 yaml/events.py; YAML 1.2.2 section 10.3.2.
    """
    builder = _Builder(name, what)
    bad = _NOT_PRINTABLE.search(text)
    if bad:
        builder.fault_at_index(text, bad.start())
        return Outcome(None, tuple(builder.diagnostics))
    try:
        for event in _events(text):
            if not builder.take(event):
                break
    except yaml.MarkedYAMLError as error:
        builder.syntax(error, lines_of(text))
    root = builder.root
    if root is None and not builder.diagnostics:
        builder.report(
            "yaml-syntax",
            Span(name, 1, 1, 1, 1),
            f"the {what} is empty",
            builder.why,
            "write one with: dync init" if what == PROFILE else "copy one that ships with dync",
        )
    if root is None or builder.diagnostics:
        return Outcome(None, tuple(builder.diagnostics))
    return Outcome(Document(root=root, sources={name: text}, what=what))


def parse_data(text: str) -> Any:
    """Read YAML that belongs to the program itself (a stack): no positions, no diagnostics."""
    return yaml.load(text, Loader=_Loader)


def lines_of(text: str) -> list[str]:
    """Split a source into its lines as YAML counts them."""
    return _LINE_BREAK.split(text)


def _events(text: str) -> Iterator[Any]:
    return iter(yaml.parse(text, Loader=_Loader))


class _Builder:
    """Collects events into nodes on an explicit stack."""

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        self.what = what
        self.why = f"a {what} is one YAML document of mappings, lists and plain values"
        self.root: Node | None = None
        self.diagnostics: list[Diagnostic] = []
        self._open: list[tuple[Node, list[tuple[str, Span]]]] = []
        self._anchors: dict[str, Node] = {}
        self._measures: dict[int, tuple[int, int]] = {}
        self._count = 0

    def take(self, event: Any) -> bool:
        """Add one event; False ends the reading."""
        if isinstance(event, yaml.ScalarEvent):
            return self._add(self._scalar(event), event)
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            node = Node({} if is_mapping else [], self._span(event))
            if event.tag is not None and not event.implicit:
                self._tag(event)
            return self._add(node, event) and self._push(node)
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            node, _ = self._open.pop()
            mark: Any = event.end_mark
            node.span = Span(
                self.name, node.span.line, node.span.column, mark.line + 1, mark.column + 1
            )
            return True
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            self.report(
                "yaml-syntax",
                self._span(event),
                "a second YAML document starts here",
                self.why,
                "keep one document in the file",
            )
            return False
        return True

    def report(  # noqa: PLR0913, PLR0917 -- a diagnostic has this many parts
        self,
        rule: str,
        span: Span,
        message: str,
        why: str,
        fix: str | None,
        related: tuple[Label, ...] = (),
    ) -> None:
        """Add an error."""
        self.diagnostics.append(
            Diagnostic(
                rule=rule,
                severity=Severity.ERROR,
                message=message,
                primary=Label(span=span),
                why=why,
                fix=fix,
                related=related,
            )
        )

    def syntax(self, error: yaml.MarkedYAMLError, lines: list[str]) -> None:
        """Report what the parser refused."""
        mark = error.problem_mark or error.context_mark
        if "could not find expected ':'" in str(error.problem):
            mark = error.context_mark or mark  # where the line without a colon begins
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if line > len(lines):  # the parser ends every text with a line break
            line, column = len(lines), len(lines[-1]) + 1
        problem = " ".join(str(error.problem or error).split())
        context = f" ({' '.join(str(error.context).split())})" if error.context else ""
        fix = next(
            (fix for words, fix in _SYNTAX_FIXES if words in f"{problem}{context}"),
            "check indentation, quotes and colons",
        )
        if lines[line - 1][column - 1 : column] == "\t":
            fix = "indent with spaces: YAML allows no tab there"
        begin = error.context_mark if error.context_mark is not mark else None
        related: tuple[Label, ...] = ()
        if begin is not None and (begin.line + 1, begin.column + 1) < (line, column):
            row, start = begin.line + 1, begin.column + 1
            span = Span(self.name, row, start, row, start + 1)
            related = (Label(span=span, text="begins here"),)
        self.report(
            "yaml-syntax",
            Span(self.name, line, column, line, column + 1),
            f"not valid YAML: {problem}{context}",
            self.why,
            fix,
            related,
        )

    def fault_at_index(self, text: str, index: int) -> None:
        """Report a character that YAML does not allow."""
        before = lines_of(text[:index])
        line, column = len(before), len(before[-1]) + 1
        code = ord(text[index])
        is_byte = 0xDC80 <= code <= 0xDCFF  # how Python's surrogateescape keeps a wrong byte
        self.report(
            "yaml-syntax",
            Span(self.name, line, column, line, column + 1),
            f"byte 0x{code - 0xDC00:02X} is not UTF-8 text"
            if is_byte
            else f"character U+{code:04X} is not allowed in YAML",
            self.why,
            "save the file as UTF-8" if is_byte else "remove it",
        )

    def _span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        return Span(self.name, start.line + 1, start.column + 1, end.line + 1, end.column + 1)

    def _push(self, node: Node) -> bool:
        self._open.append((node, []))
        if len(self._open) <= MAX_DEPTH:
            return True
        self._too_large(node.span, f"nested deeper than {MAX_DEPTH} levels")
        return False

    def _too_large(self, span: Span, size: str) -> None:
        self.report(
            "yaml-syntax",
            span,
            f"the {self.what} is {size}",
            self.why,
            f"write a smaller {self.what}",
        )

    def _add(self, node: Node, event: Any) -> bool:
        """Put a node into the open collection, as a key, a value or an item."""
        self._count += 1
        if self._count > MAX_NODES:
            self._too_large(node.span, f"larger than {MAX_NODES} values")
            return False
        if getattr(event, "anchor", None):
            self._anchors[event.anchor] = node
        if not self._open:
            self.root = node
            return True
        parent, pending = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif isinstance(parent.value, dict):
            if pending:
                key, span = pending.pop()
                parent.value[key] = node
                parent.keys[key] = span
            else:
                return self._key(parent, pending, node)
        return True

    def _key(self, parent: Node, pending: list[tuple[str, Span]], node: Node) -> bool:
        key = node.value
        if not isinstance(key, str):
            if not self.diagnostics:
                is_large = isinstance(key, (dict, list))
                self.report(
                    "yaml-key",
                    node.span,
                    f"a {'mapping' if isinstance(key, dict) else 'list'} stands where a key must be"
                    if is_large
                    else "a number, a truth value or nothing stands where a key must be",
                    f"every key of a {self.what} is a word of the schema or a name",
                    "write a plain word; quote a value that begins with { or ["
                    if is_large
                    else "write a plain word, or quote it",
                )
            return False
        if isinstance(parent.value, dict) and key in parent.value:
            self.diagnostics.append(
                Diagnostic(
                    rule="duplicate-key",
                    severity=Severity.ERROR,
                    message=f"key {key!r} stands twice in the same mapping",
                    primary=Label(span=node.span, text="again here"),
                    related=(Label(span=parent.keys[key], text="first here"),),
                    why="YAML readers keep the last of two equal keys in silence",
                    fix="remove one of the two",
                )
            )
        pending.append((key, node.span))
        return True

    def _alias(self, event: Any) -> bool:
        target = self._anchors.get(event.anchor)
        if target is None or any(target is node for node, _ in self._open):
            self.report(
                "yaml-syntax",
                self._span(event),
                f"alias *{event.anchor} names no finished value above it",
                self.why,
                "write the value out",
            )
            return False
        size, depth = self._measure(target)
        self._count += size
        if len(self._open) + depth > MAX_DEPTH:
            self._too_large(self._span(event), f"nested deeper than {MAX_DEPTH} levels")
            return False
        return self._add(target, event)

    def _measure(self, node: Node) -> tuple[int, int]:
        """Return size and depth of a shared node, as if it were written out; each measured once."""
        if id(node) not in self._measures:
            below: list[Node] = []
            if isinstance(node.value, dict):
                below = list(node.value.values())
            elif isinstance(node.value, list):
                below = node.value
            sizes = [self._measure(child) for child in below]
            self._measures[id(node)] = (
                1 + sum(size for size, _ in sizes),
                1 + max((depth for _, depth in sizes), default=0),
            )
        return self._measures[id(node)]

    def _tag(self, event: Any) -> None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!", 1)
        self.report(
            "yaml-syntax",
            self._span(event),
            f"YAML tag {tag} is not used in a {self.what}",
            self.why,
            "remove the tag; quote the value if it is text",
        )

    def _scalar(self, event: Any) -> Node:
        span, text = self._span(event), event.value
        plain = event.style is None or event.style == ""
        if event.tag is not None and not (event.implicit[0] or event.implicit[1]):
            self._tag(event)
        if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
            self.report(
                "yaml-syntax",
                span,
                "a NUL or half of a surrogate pair cannot stand in a command line",
                self.why,
                "remove it",
            )
        if not plain:
            return Node(text, span)
        value = read_scalar(text)
        if isinstance(value, Fault):
            self.report("yaml-ambiguous-scalar", span, value.message, value.why, value.fix)
            return Node(text, span)
        return Node(value, span)
