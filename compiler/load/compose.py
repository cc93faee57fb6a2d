"""Put a profile together from its file, the files it extends, and the --set options."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from compiler.diagnostic import Diagnostic, Label, Rule, Severity, Span
from compiler.document import Document, Node
from compiler.load.yaml_tree import MAX_DEPTH, MAX_ENTRIES, MAX_NODES, load

Reader = Callable[[str], str]
_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)((?:\[[0-9]{1,6}\])*)\Z")
MAX_CHAIN = 50
TOP_KEYS = (
    "accelerator",
    "deploy",
    "discovery",
    "extends",
    "frontend",
    "lmcache",
    "model",
    "name",
    "secret_env",
    "stack",
    "topology",
    "workers",
)
# What begins a line of a profile, in block or flow form: a file that has none is none.
_TOP_KEY = re.compile(rf"^(?:\{{\s*)?[\"']?(?:{'|'.join(TOP_KEYS)})[\"']?[ \t]*:", re.MULTILINE)
_EXTENDS = Rule(
    "extends",
    Severity.ERROR,
    "extends names another profile, relative to this one, whose values this one replaces",
)
_SET_OPTION = Rule(
    "set-option",
    Severity.ERROR,
    "--set takes a dotted key of the profile, such as lmcache.chunk_size=512",
)


class Unreadable(Exception):
    """A source that a Reader cannot give, with the reason as its text."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a chain as it was read; asked: where another one extends it."""

    name: str
    text: str
    asked: Span | None = None


@dataclass(slots=True)
class _Found:
    """What reading has gathered so far; size and keys: of all files of the chain."""

    sources: dict[str, str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    size: int = 0
    keys: set[str] = field(default_factory=set)

    def report(self, rule: Rule, span: Span, message: str, fix: str) -> None:
        self.diagnostics.append(rule.at(span, message, fix=fix))


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
    root = _read(_File(name, read(name)), read, found, ())
    for override in overrides:
        if root is not None:
            root = _override(root, override, found)
    if root is None or found.diagnostics:
        return Composed(None, tuple(found.diagnostics), found.sources)
    return Composed(Document(root=root, sources=found.sources), (), found.sources)


def _read(file: _File, read: Reader, found: _Found, chain: tuple[str, ...]) -> Node | None:
    """Read what is in a file and in what it extends; chain: what extends the file."""
    found.sources[file.name] = file.text
    loaded = load(file.text, file.name)
    found.diagnostics.extend(loaded.diagnostics)
    if loaded.value is None:
        return None
    root = loaded.value.root
    found.size += loaded.value.size
    found.keys.update(root.keys)
    if file.asked is not None and (found.size > MAX_NODES or len(found.keys) > MAX_ENTRIES):
        message = f"with {file.name}, the profile is larger than one file may be"
        found.report(_EXTENDS, file.asked, message, "extend less, or write smaller files")
        return None
    parent = root.child("extends")
    if parent is None:
        return root
    if not isinstance(parent.value, str) or not parent.value:
        return root  # left in place: the schema says what it must be
    below = _below(parent, parent.value, read, found, (*chain, file.name))
    if below is None or not isinstance(root.value, MappingProxyType):
        return None
    own = {key: node for key, node in root.value.items() if key != "extends"}
    return _merge(below, Node(MappingProxyType(own), root.span, root.keys))


def _below(
    parent: Node, value: str, read: Reader, found: _Found, chain: tuple[str, ...]
) -> Node | None:
    """Read what the last profile of a chain extends; text of a file that is none is never shown."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(chain[-1]), value))
    wrong, text = _refusal(value, target, chain), ""
    if wrong is None:
        try:
            text = read(target)
        except Unreadable as error:
            wrong = (f"cannot read {target}: {error}", "name a profile that exists")
    if wrong is None and not _TOP_KEY.search(text):
        wrong = (f"{target} is no profile: it has no key of one", "name a profile")
    if wrong is not None:
        found.report(_EXTENDS, parent.span, *wrong)
        return None
    return _read(_File(target, text, parent.span), read, found, chain)


def _refusal(value: str, target: str, chain: tuple[str, ...]) -> tuple[str, str] | None:
    """Return why a file is not to be read at all, and the edit to make; None where it may be."""
    if value.startswith("/"):
        return f"{value} is an absolute path", "write it relative to this file, or copy it beside"
    if target in chain:
        return f"a circle: {' extends '.join((*chain, target))}", "remove this extends"
    if len(chain) >= MAX_CHAIN:
        return f"more than {MAX_CHAIN} profiles extend each other", "put some of them into one"
    return None


def _merge(below: Node, above: Node) -> Node:
    """Merge mappings key by key; anything else above replaces what is below."""
    if not isinstance(below.value, MappingProxyType) or not isinstance(
        above.value, MappingProxyType
    ):
        return above
    value = dict(below.value)
    for key, node in above.value.items():
        value[key] = _merge(value[key], node) if key in value else node
    return _mapping(value, above.span, {**below.keys, **above.keys})


def _override(root: Node, override: str, found: _Found) -> Node | None:
    """Lay one --set K=V over the tree; its source is the option's own text."""
    key, equals, text = override.partition("=")
    name = f"--set {key}"
    found.sources[name] = override
    whole = Span(name, 1, 1, 1, len(override) + 1)
    steps = _steps(key)
    if not equals or steps is None:
        message = f"{override!r} is not KEY=VALUE"
        found.report(_SET_OPTION, whole, message, "write for example: --set lmcache.chunk_size=512")
        return None
    if steps[0] == "extends":
        found.diagnostics.append(
            _SET_OPTION.at(
                whole,
                "extends cannot be set from the command line",
                fix="write extends in the profile, or give the other profile instead",
                why="what a profile extends is read before any --set",
            )
        )
        return None
    if len(steps) > MAX_DEPTH:
        message = f"the key is nested deeper than {MAX_DEPTH} levels"
        found.report(_SET_OPTION, whole, message, "name a key that the profile can have")
        return None
    value = _value(text, name, whole, len(key) + 1, found)
    return None if value is None else _placed(root, steps, value, whole, found)


def _value(text: str, name: str, whole: Span, offset: int, found: _Found) -> Node | None:
    """Read an option's value; offset: the columns of `KEY=` before it."""
    if not text.strip():
        return _shifted(Node(None, whole), offset)
    loaded = load(text, name)
    found.diagnostics.extend(_shifted_diagnostic(d, offset) for d in loaded.diagnostics)
    return None if loaded.value is None else _shifted(loaded.value.root, offset)


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
        items = node.value if node is not None and isinstance(node.value, tuple) else None
        if items is None or node is None or step >= len(items):
            last = "no list" if not items else f"entries up to [{len(items) - 1}]"
            message = f"there is no entry [{step}]: the profile has {last} there"
            fix = "name an entry that exists" if items else "give the whole list"
            found.report(_SET_OPTION, span, message, fix)
            return None
        below = _placed(items[step], rest, value, span, found)
        if below is None:
            return None
        return Node((*items[:step], below, *items[step + 1 :]), node.span)
    is_mapping = node is not None and isinstance(node.value, MappingProxyType)
    mapping = node if node is not None and is_mapping else _mapping({}, span, {})
    below = _placed(mapping.child(step), rest, value, span, found)
    if below is None:
        return None
    children = mapping.value if isinstance(mapping.value, MappingProxyType) else {}
    key_span = Span(span.file, 1, 1, 1, span.end_column)
    return _mapping({**children, step: below}, mapping.span, {**mapping.keys, step: key_span})


def _mapping(value: dict[str, Node], span: Span, keys: dict[str, Span]) -> Node:
    return Node(MappingProxyType(value), span, MappingProxyType(keys))


def _shifted(root: Node, columns: int) -> Node:
    """Return a value of an option's text, its spans on line 1 moved right by `KEY=`.

    A node that several places share is moved once and stays shared, as large as it is.
    """
    moved: dict[int, Node] = {}

    def shift(node: Node) -> Node:
        if id(node) not in moved:
            value = node.value
            if isinstance(value, MappingProxyType):
                value = MappingProxyType({key: shift(child) for key, child in value.items()})
            elif isinstance(value, tuple):
                value = tuple(map(shift, value))
            keys = {key: _moved(span, columns) for key, span in node.keys.items()}
            moved[id(node)] = Node(value, _moved(node.span, columns), MappingProxyType(keys))
        return moved[id(node)]

    return shift(root)


def _moved(span: Span, columns: int) -> Span:
    start = columns if span.line == 1 else 0
    end = columns if span.end_line == 1 else 0
    return Span(span.file, span.line, span.column + start, span.end_line, span.end_column + end)


def _shifted_diagnostic(diagnostic: Diagnostic, columns: int) -> Diagnostic:
    """Move a diagnostic of the value's text into the option's text."""

    def shift(label: Label) -> Label:
        return replace(label, span=_moved(label.span, columns))

    return replace(
        diagnostic,
        primary=shift(diagnostic.primary),
        related=tuple(map(shift, diagnostic.related)),
    )
