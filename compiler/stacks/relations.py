"""What one release of vLLM asks of options together, read from schemas/engine_relations.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compiler.document import Json
from compiler.load.yaml_tree import parse_data

MAX_LEN = "model.max_len"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What an option needs, excludes or is compared with; the file says what each part means."""

    at: str
    when: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    at_most: str = ""
    at_least: str = ""
    needs: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    says: str
    source: str
    releases: tuple[str, ...]


def parse_relations(text: str) -> tuple[Relation, ...]:
    """Read the file; a mistake in it is a bug of the program, not of a profile."""
    return tuple(
        Relation(
            **{
                **entry,
                "when": {key: tuple(values) for key, values in entry.get("when", {}).items()},
                "needs": {key: tuple(values) for key, values in entry.get("needs", {}).items()},
                "without": tuple(entry.get("without", ())),
                "releases": tuple(entry["releases"]),
            }
        )
        for entry in parse_data(text)
    )
