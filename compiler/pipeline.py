"""Run the pure stages in order, from a profile's name to its plan."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from compiler.diagnostic import Diagnostic, Rule, Severity, Span, has_errors, suggestion
from compiler.document import Document
from compiler.library import Library
from compiler.load.compose import Reader, compose
from compiler.model.asked import asked_model
from compiler.plan import Source, SourceFile
from compiler.resolve.plan_of import Resolved, resolve
from compiler.rules.explain import pages
from compiler.rules.tables import check_plans, check_profile, check_stack
from compiler.stacks.stack import Stack
from compiler.validate.suppression import suppress
from compiler.validate.topology_of import validate

_UNKNOWN_STACK = Rule(
    "unknown-stack",
    Severity.ERROR,
    "a stack is a released set of engine versions that dync knows the flags of",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What became of one profile: a plan, or None, and everything there is to say."""

    resolved: Resolved | None
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]


def compile_profile(
    name: str, read: Reader, overrides: Iterable[str], library: Library
) -> Compiled:
    """Load, validate, check and resolve one profile.

    Errors: Unreadable where the profile itself cannot be read; else Diagnostics.
    """
    overrides = tuple(overrides)
    composed = compose(name, read, overrides)
    found, resolved = list(composed.diagnostics), None
    if composed.document is not None:
        source = _source(name, composed.sources, overrides)
        resolved = _resolved(composed.document, source, library, found)
        found = list(suppress(found, composed.document, name, lambda: pages(library.stacks())))
    return Compiled(
        resolved=None if has_errors(found) else resolved,
        diagnostics=tuple(found),
        sources=composed.sources,
    )


def found_together(compiled: Sequence[Compiled]) -> list[Diagnostic]:
    """Check all profiles as deployments of one host."""
    resolved = [item.resolved for item in compiled if item.resolved is not None]
    return list(check_plans(resolved)) if len(compiled) > 1 else []


def _resolved(
    document: Document, source: Source, library: Library, found: list[Diagnostic]
) -> Resolved | None:
    """Run the stages on a document until one finds an error; all of them add to `found`."""
    validated = validate(document, library.schema)
    found.extend(validated.diagnostics)
    topology = validated.value
    if topology is None:
        return None
    found.extend(check_profile(topology))
    stack = _stack(topology.stack, topology.origin.of("stack"), library, found)
    if stack is None or has_errors(found):
        return None
    args = [group.engine_args for group in topology.workers]
    model = library.load_model(asked_model(topology.model.id, args))
    found.extend(check_stack(topology, stack, model))
    if has_errors(found):
        return None
    resolved = resolve(topology, stack, source, model.config)
    found.extend(check_plans([resolved]))
    return resolved


def _stack(name: str, span: Span, library: Library, found: list[Diagnostic]) -> Stack | None:
    if name in library.stack_names:
        return library.load_stack(name)
    near = suggestion(name, library.stack_names)
    found.append(
        _UNKNOWN_STACK.at(
            span,
            f"there is no stack {name!r}",
            fix=f"write stack: {near or ' or '.join(library.stack_names)}",
            label=f"did you mean {near}?" if near else "",
        )
    )
    return None


def _source(name: str, sources: Mapping[str, str], overrides: tuple[str, ...]) -> Source:
    """Name the files as seen from the profile's folder, so that no build path gets in."""
    folder = posixpath.dirname(name) or "."
    files = tuple(
        SourceFile(
            path=_text(posixpath.relpath(source, folder)),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
        )
        for source, text in sources.items()
        if not source.startswith("--set ")
    )
    pairs = (override.partition("=") for override in overrides)
    return Source(files=files, overrides={key: value for key, _, value in pairs})


def _text(name: str) -> str:
    """Write a file's name as text, also where it is no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()
