"""Run the pure stages in order, from a profile's name to its plan."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compiler.diagnostic import Diagnostic, Label, Severity, has_errors, suggestion
from compiler.load.compose import Reader, compose
from compiler.model.config import ModelConfig
from compiler.model.kv_shape import Unknown
from compiler.plan import Source, SourceFile
from compiler.resolve.plan_of import Resolved, resolve
from compiler.rules.explain import pages
from compiler.stacks.stack import Stack
from compiler.topology import Topology
from compiler.validate.suppression import suppress
from compiler.validate.topology_of import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What the program brings along: the profile's schema, its stacks, and what it knows of models.

    load_model: by id or local folder. Errors: Unknown where there is no config.json to read.
    """

    schema: Mapping[str, Any]
    stack_names: tuple[str, ...]
    load_stack: Callable[[str], Stack]
    load_model: Callable[[str], ModelConfig]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What became of one profile: a plan, or None, and everything there is to say."""

    resolved: Resolved | None
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]


def compile_profile(
    name: str, read: Reader, overrides: Iterable[str], library: Library
) -> Compiled:
    """Load, validate and resolve one profile.

    Errors: Unreadable where the profile itself cannot be read; else Diagnostics.
    """
    overrides = tuple(overrides)
    composed = compose(name, read, overrides)
    found = list(composed.diagnostics)
    resolved = None
    if composed.document is not None:
        validated = validate(composed.document, library.schema)
        found.extend(validated.diagnostics)
        if validated.value is not None:
            stack = _stack(validated.value, library, found)
            if stack is not None and not validated.has_errors:
                source = _source(name, composed.sources, overrides)
                model = _model(validated.value, library)
                outcome = resolve(validated.value, stack, model, source)
                found.extend(outcome.diagnostics)
                resolved = outcome.value
        found = list(suppress(found, composed.document, name, lambda: pages(library)))
    return Compiled(
        resolved=None if has_errors(found) else resolved,
        diagnostics=tuple(found),
        sources=composed.sources,
    )


def _stack(topology: Topology, library: Library, found: list[Diagnostic]) -> Stack | None:
    if topology.stack in library.stack_names:
        return library.load_stack(topology.stack)
    near = suggestion(topology.stack, library.stack_names)
    found.append(
        Diagnostic(
            rule="unknown-stack",
            severity=Severity.ERROR,
            message=f"there is no stack {topology.stack!r}",
            primary=Label(
                span=topology.origin.of("stack"), text=f"did you mean {near}?" if near else ""
            ),
            why="a stack is a released set of engine versions that dync knows the flags of",
            fix=f"write stack: {near or ' or '.join(library.stack_names)}",
        )
    )
    return None


def _model(topology: Topology, library: Library) -> ModelConfig | None:
    try:
        return library.load_model(topology.model.id)
    except Unknown:
        return None


def _source(name: str, sources: Mapping[str, str], overrides: tuple[str, ...]) -> Source:
    """Name the files as seen from the profile's folder, so that no build path gets in."""
    folder = posixpath.dirname(name) or "."
    files = tuple(
        SourceFile(
            path=posixpath.relpath(source, folder),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
        )
        for source, text in sources.items()
        if not source.startswith("--set ")
    )
    pairs = (override.partition("=") for override in overrides)
    return Source(files=files, overrides={key: value for key, _, value in pairs})
