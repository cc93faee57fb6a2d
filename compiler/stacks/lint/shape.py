"""Check a data file of the program against its schema, as a profile is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.diagnostic import Outcome
from compiler.document import Document
from compiler.load.yaml_tree import load
from compiler.validate.schema import schema_diagnostics


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """A kind of data file: what diagnostics call it, and the name of its schema."""

    what: str
    schema: str


STACK = FileKind(what="stack", schema="stack.schema.json")
TIERS = FileKind(what="tiers file", schema="tiers.schema.json")
RELATIONS = FileKind(what="relations file", schema="engine_relations.schema.json")


def check_shape(
    text: str, name: str, kind: FileKind, schema: Mapping[str, Any]
) -> Outcome[Document]:
    """Read a data file with its positions, and list everything that its schema does not have."""
    loaded = load(text, name, kind.what)
    if loaded.value is None:
        return loaded
    return Outcome(loaded.value, tuple(schema_diagnostics(loaded.value, schema)))
