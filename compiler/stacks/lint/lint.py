"""Check one data file whole: the schema that its first line names, then what it refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from compiler.diagnostic import Diagnostic, Rule, Severity, Span
from compiler.document import Document
from compiler.stacks.lint.references import Shipped
from compiler.stacks.lint.relations_file import check_relations_file
from compiler.stacks.lint.shape import RELATIONS, STACK, TIERS, FileKind, check_shape
from compiler.stacks.lint.stack_file import check_stack_file
from compiler.stacks.lint.tiers_file import check_tiers_file

CHECKS: Mapping[FileKind, Callable[[Document, Shipped], Iterator[Diagnostic]]] = {
    STACK: check_stack_file,
    TIERS: check_tiers_file,
    RELATIONS: check_relations_file,
}
_KINDS = {kind.schema: kind for kind in CHECKS}
_WITHOUT_SCHEMA = Rule(
    "without-schema", Severity.ERROR, "editors and this check read there what the file is"
)
_MODELINE = re.compile(r"# yaml-language-server: \$schema=(?:\S*/)?(\S+)\s*$")


def lint(text: str, name: str, shipped: Shipped) -> list[Diagnostic]:
    """List all mistakes of a file; what it names is looked up where its shape has no error."""
    found = _MODELINE.match(text.partition("\n")[0])
    kind = _KINDS.get(found[1]) if found else None
    if kind is None:
        return [_without_schema(name)]
    shape = check_shape(text, name, kind, shipped.schema(kind.schema))
    if shape.value is None or shape.diagnostics:
        return list(shape.diagnostics)
    return list(CHECKS[kind](shape.value, shipped))


def _without_schema(name: str) -> Diagnostic:
    return _WITHOUT_SCHEMA.at(
        Span(name, 1, 1, 1, 2),
        "the first line does not name the file's schema",
        fix=f"begin with: # yaml-language-server: $schema=../{STACK.schema} "
        f"(or {TIERS.schema}, {RELATIONS.schema})",
    )
