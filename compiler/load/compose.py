"""Put a profile together from its file, the files it extends, and the --set options."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from compiler.diagnostic import Diagnostic, Label, Outcome, Severity, Span
from compiler.document import Document, Node
from compiler.load.yaml_tree import load

Reader = Callable[[str], str]
_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)((?:\[[0-9]{1,6}\])*)\Z")
_WHY_SET = "--set takes a dotted key of the profile, such as lmcache.chunk_size=512"


class Unreadable(Exception):
    """A source that a Reader cannot give, with the reason as its text."""


@dataclass(slots=True)
class _Found:
    """What reading has gathered so far."""

    sources: dict[str, str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def report(self, rule: str, span: Span, message: str, why: str, fix: str) -> None:
        self.diagnostics.append(
            Diagnostic(
                rule=rule,
                severity=Severity.ERROR,
                message=message,
                primary=Label(span=span),
                why=why,
                fix=fix,
            )
        )


@dataclass(frozen=True, slots=True)
class Composed:
    """A profile put together, or None, and the text of everything that was read for it."""

    document: Document | None
    diagnostics: tuple[Diagnostic, ...]
    sources: dict[str, str]


def compose(name: str, read: Reader, overrides: Iterable[str] = ()) -> Composed:
    """Read a profile with everything it extends, then lay the overrides over it.

    Errors: Unreadable is raised only for `name` itself; a bad `extends` is a Diagnostic.
    """
    found = _Found()
    root = _read(name, read(name), read, found, ())
    for override in overrides:
        if root is not None:
            root = _override(root, override, found)
    if root is None or found.diagnostics:
        return Composed(None, tuple(found.diagnostics), found.sources)
    return Composed(Document(root=root, sources=found.sources), (), found.sources)


def _read(name: str, text: str, read: Reader, found: _Found, chain: tuple[str, ...]) -> Node | None:
    found.sources[name] = text
    loaded = load(text, name)
    found.diagnostics.extend(loaded.diagnostics)
    if loaded.value is None:
        return None
    root = loaded.value.root
    parent = root.child("extends")
    if parent is None:
        return root
    if not isinstance(parent.value, str) or not parent.value:
        return root  # left in place: the schema says what it must be
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), parent.value))
    why = "extends names another profile, relative to this one, whose values this one replaces"
    if target in (*chain, name):
        way = " extends ".join((*chain, name, target))
        found.report("extends", parent.span, f"a circle: {way}", why, "remove this extends")
        return None
    try:
        below = _read(target, read(target), read, found, (*chain, name))
    except Unreadable as error:
        message = f"cannot read {target}: {error}"
        found.report("extends", parent.span, message, why, "name a profile that exists")
        return None
    if below is None or not isinstance(root.value, dict):
        return None
    own = {key: node for key, node in root.value.items() if key != "extends"}
    return _merge(below, Node(own, root.span, root.keys))


def _merge(below: Node, above: Node) -> Node:
    """Merge mappings key by key; anything else above replaces what is below."""
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    value = dict(below.value)
    for key, node in above.value.items():
        value[key] = _merge(value[key], node) if key in value else node
    return Node(value, above.span, {**below.keys, **above.keys})


def _override(root: Node, override: str, found: _Found) -> Node | None:
    """Lay one --set K=V over the tree; its source is the option's own text."""
    key, equals, text = override.partition("=")
    name = f"--set {key}"
    found.sources[name] = override
    whole = Span(name, 1, 1, 1, len(override) + 1)
    steps = _steps(key)
    if not equals or steps is None:
        found.report(
            "set-option",
            whole,
            f"{override!r} is not KEY=VALUE",
            _WHY_SET,
            "write for example: --set lmcache.chunk_size=512",
        )
        return None
    if steps[0] == "extends":
        found.report(
            "set-option",
            whole,
            "extends cannot be set from the command line",
            "what a profile extends is read before any --set",
            "write extends in the profile, or give the other profile instead",
        )
        return None
    loaded = (
        load(text, name) if text.strip() else Outcome(Document(root=Node(None, whole), sources={}))
    )
    offset = len(key) + 1
    found.diagnostics.extend(_shifted(d, offset) for d in loaded.diagnostics)
    if loaded.value is None:
        return None
    value = loaded.value.root
    _shift(value, offset)
    return _placed(root, steps, value, whole, found)


def _steps(key: str) -> list[str | int] | None:
    steps: list[str | int] = []
    for part in key.split("."):
        match = _STEP.match(part)
        if not match:
            return None
        steps.append(match[1])
        steps.extend(int(index) for index in re.findall(r"[0-9]+", match[2]))
    return steps


def _placed(
    node: Node | None, steps: list[str | int], value: Node, span: Span, found: _Found
) -> Node | None:
    """Return a copy of the tree with the value at the end of the steps."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        items = node.value if node is not None and isinstance(node.value, list) else None
        if items is None or node is None or step >= len(items):
            last = "no list" if not items else f"entries up to [{len(items) - 1}]"
            found.report(
                "set-option",
                span,
                f"there is no entry [{step}]: the profile has {last} there",
                _WHY_SET,
                "give the whole list" if not items else "name an entry that exists",
            )
            return None
        below = _placed(items[step], rest, value, span, found)
        if below is None:
            return None
        return Node([*items[:step], below, *items[step + 1 :]], node.span)
    mapping = node if node is not None and isinstance(node.value, dict) else Node({}, span)
    children = mapping.value if isinstance(mapping.value, dict) else {}
    below = _placed(children.get(step), rest, value, span, found)
    if below is None:
        return None
    key_span = Span(span.file, 1, 1, 1, span.end_column)
    return Node({**children, step: below}, mapping.span, {**mapping.keys, step: key_span})


def _shift(node: Node, columns: int) -> None:
    """Move spans on line 1 right by the length of `KEY=`."""
    node.span = _moved(node.span, columns)
    node.keys = {key: _moved(span, columns) for key, span in node.keys.items()}
    if isinstance(node.value, dict):
        for child in node.value.values():
            _shift(child, columns)
    elif isinstance(node.value, list):
        for child in node.value:
            _shift(child, columns)


def _moved(span: Span, columns: int) -> Span:
    start = columns if span.line == 1 else 0
    end = columns if span.end_line == 1 else 0
    return Span(span.file, span.line, span.column + start, span.end_line, span.end_column + end)


def _shifted(diagnostic: Diagnostic, columns: int) -> Diagnostic:
    """Move a diagnostic of the value's text into the option's text."""
    return Diagnostic(
        rule=diagnostic.rule,
        severity=diagnostic.severity,
        message=diagnostic.message,
        primary=Label(span=_moved(diagnostic.primary.span, columns), text=diagnostic.primary.text),
        why=diagnostic.why,
        fix=diagnostic.fix,
        related=tuple(
            Label(span=_moved(label.span, columns), text=label.text) for label in diagnostic.related
        ),
    )
