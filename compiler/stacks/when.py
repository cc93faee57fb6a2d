"""The one dialect of `when`: names, and the values that make it hold.

    when: {mode: in_process, role: [prefill, decode], sentinel: "*", size_gb: null}

One value or a list of them; "*" is any that is given, null none. Stacks, tiers and relations differ
only in where a name's value comes from: a worker, a tier's options, the engine's arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from compiler.document import Json

ANY = "*"
Facts = Callable[[str], Json]
"""Return the value of a name; None where none was given."""


@dataclass(frozen=True, slots=True)
class When:
    """What must hold: each name has one of its values; nothing asked holds always."""

    values: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return what it asks for, in the order in which it was written."""
        return tuple(self.values)

    def matches(self, facts: Facts) -> bool:
        """Return whether all of it holds."""
        return next(self.unmet(facts), None) is None

    def unmet(self, facts: Facts) -> Iterator[str]:
        """Return the names whose value is another one."""
        for name, values in self.values.items():
            given = facts(name)
            if given not in values and not (ANY in values and given is not None):
                yield name


def parse_when(data: Mapping[str, Json]) -> When:
    """Read the mapping as a data file has it."""
    lists = {name: value if isinstance(value, list) else [value] for name, value in data.items()}
    return When({name: tuple(values) for name, values in lists.items()})
