"""The tree of a YAML file, which knows where every key and value was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Union

from compiler.diagnostic import Span

Json = Union[  # noqa: UP007 -- a recursive alias needs the class form
    None, bool, int, float, str, list["Json"], dict[str, "Json"]
]
Path = tuple[str | int, ...]
PROFILE = "profile"
_NO_KEYS: MappingProxyType[str, Span] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its span; for a mapping, also the spans of its keys."""

    value: bool | int | float | str | tuple[Node, ...] | MappingProxyType[str, Node] | None
    span: Span
    keys: MappingProxyType[str, Span] = field(default_factory=lambda: _NO_KEYS)

    def plain(self) -> Json:
        """Return the value without positions."""
        if isinstance(self.value, MappingProxyType):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def children(self) -> Iterable[Node]:
        """Return the nodes one step down, in their order; a plain value has none."""
        if isinstance(self.value, MappingProxyType):
            return self.value.values()
        return self.value if isinstance(self.value, tuple) else ()

    def child(self, step: str | int) -> Node | None:
        """Return the node one step down, or None."""
        if isinstance(self.value, MappingProxyType) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, tuple) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file's tree, and the text of every source it was read from; what: as a person calls it.

    size: the values in it, each alias with all that it stands for.
    """

    root: Node
    sources: dict[str, str]
    what: str = PROFILE
    size: int = 0

    def span(self, path: Path) -> Span:
        """Return the span of the value at a path, or of its deepest parent that was written."""
        return self._walk(path)[0].span

    def has(self, path: Path) -> bool:
        """Return whether a value at this path was written."""
        return self._walk(path)[1] == 0

    def key_span(self, path: Path) -> Span:
        """Return the span of the key at a path, or of the value where there is no key."""
        parent, rest = self._walk(path[:-1])
        if rest == 0 and path and isinstance(path[-1], str) and path[-1] in parent.keys:
            return parent.keys[path[-1]]
        return self._walk(path)[0].span

    def _walk(self, path: Path) -> tuple[Node, int]:
        node = self.root
        for taken, step in enumerate(path):
            below = node.child(step)
            if below is None:
                return node, len(path) - taken
            node = below
        return node, 0
