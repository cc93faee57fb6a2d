"""Check what the file of relations names: options of vLLM, and releases that stacks have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compiler.diagnostic import Diagnostic, Span
from compiler.document import Document
from compiler.load.yaml_tree import load
from compiler.stacks.lint.references import VLLM, Shipped, below, unknown
from compiler.stacks.relations import MAX_LEN


def check_relations_file(document: Document, shipped: Shipped) -> Iterator[Diagnostic]:
    """Report each name of the relations that leads nowhere."""
    data: Any = document.root.plain()
    releases = {name: _release(shipped, name) for name in shipped.stack_names}
    options = {name: shipped.names(name, VLLM) for name in shipped.stack_names}
    for index, relation in enumerate(data):
        for number, release in enumerate(relation["releases"]):
            if release not in releases.values():
                yield unknown(
                    document.span((index, "releases", number)),
                    f"no stack has vLLM {release}",
                    "a relation holds for the stacks that have one of its releases",
                    name=release,
                    known=set(releases.values()) - set(relation["releases"]),
                    otherwise="remove it",
                )
        held = [name for name, release in releases.items() if release in relation["releases"]]
        known = frozenset({MAX_LEN}).union(*(options[name] for name in held))
        for span, name in _names(document, data, index):
            if held and name not in known and name.partition(".")[0] not in known:
                yield unknown(
                    span,
                    f"no vLLM of these releases has an option {name!r}",
                    "a relation of an option that nobody can give never holds",
                    name=name,
                    known=known,
                    otherwise="write an option in snake_case (dync stack show STACK --options)",
                )


def _names(document: Document, data: Any, index: int) -> Iterator[tuple[Span, str]]:
    for key in ("at", "at_most", "at_least"):
        for path, name in below(data, (index, key)):
            yield document.span(path), str(name)
    for path, name in below(data, (index, "without", "*")):
        yield document.span(path), str(name)
    for key in ("when", "needs"):
        for path, _ in below(data, (index, key, "*")):
            yield document.key_span(path), str(path[-1])


def _release(shipped: Shipped, name: str) -> str:
    """Return the vLLM of a stack; nothing where that file cannot be read, which is told there."""
    loaded = load(shipped.stack_text(name), name)
    data: Any = loaded.value.root.plain() if loaded.value else None
    return next((str(release) for _, release in below(data, ("versions", "vllm"))), "")
