"""What releases of vLLM ask of options together, read from schemas/engine_relations.yaml.

schemas/engine_relations.schema.json says what each field means.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.load.yaml_tree import parse_data
from compiler.stacks.when import When, parse_when

MAX_LEN = "model.max_len"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What an option needs, excludes or is compared with.

    not_beside: connectors, where "*" is any.
    """

    at: str
    when: When = field(default_factory=When)
    at_most: str = ""
    at_least: str = ""
    needs: When = field(default_factory=When)
    without: tuple[str, ...] = ()
    not_beside: tuple[str, ...] = ()
    says: str
    source: str
    releases: tuple[str, ...]


def parse_relations(text: str) -> tuple[Relation, ...]:
    """Read the file.

    Errors: any exception where it does not follow schemas/engine_relations.schema.json.
    """
    return tuple(
        Relation(
            **{
                **entry,
                "when": parse_when(entry.get("when", {})),
                "needs": parse_when(entry.get("needs", {})),
                "without": tuple(entry.get("without", ())),
                "not_beside": tuple(entry.get("not_beside", ())),
                "releases": tuple(entry["releases"]),
            }
        )
        for entry in parse_data(text)
    )
