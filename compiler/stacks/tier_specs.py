"""The storage tiers of one LMCache release, read from its data file.

schemas/tiers.schema.json says what each field means, and in which unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compiler.document import Json
from compiler.load.yaml_tree import parse_data
from compiler.stacks.when import When, parse_when


@dataclass(frozen=True, slots=True, kw_only=True)
class TierConstraint:
    """What a mode does not have, or must be told, by the options that make it hold."""

    when: When
    why: str
    fix: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierVariant:
    """What replaces parts of a form where options say so; a null takes a key away."""

    when: When
    config: Mapping[str, Json]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSpec:
    """What a kind of tier becomes in one mode.

    refused: why this mode does not have it; empty where it does. refused_on, needs_fs: types of
    file systems. wants_driver: its name in /proc/driver. counted_by: "files", "keys", or nothing.
    """

    refused: str = ""
    fix: str = ""
    adapter: Json = None
    config: Mapping[str, Json] = field(default_factory=dict)
    instead: tuple[TierVariant, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    folder: str = ""
    own_folder: bool = False
    size_gb: Json = None
    keep_gb: Json = None
    server: Mapping[str, bool] = field(default_factory=dict)
    persistent: bool = False
    shared: bool = False
    needs: str = ""
    refused_on: tuple[str, ...] = ()
    needs_fs: str = ""
    wants_driver: str = ""
    counted_by: str = ""
    bounded: str = ""
    verified: str = ""
    proof: str = ""
    refuses: tuple[TierConstraint, ...] = ()
    wants: tuple[TierConstraint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TierKind:
    """One kind: what it is, and its form by mode."""

    summary: str
    modes: Mapping[str, TierSpec]


TierSpecs = Mapping[str, TierSpec]
"""What each kind becomes in one mode; empty where nobody knows."""


def parse_tiers(text: str) -> dict[str, TierKind]:
    """Read a data file of tiers.

    Errors: any exception where it does not follow schemas/tiers.schema.json.
    """
    return {kind: _kind(data) for kind, data in parse_data(text)["kinds"].items()}


def specs_in(kinds: Mapping[str, TierKind], mode: str) -> TierSpecs:
    """Return the kinds that a mode has, as they are there."""
    return {name: kind.modes[mode] for name, kind in kinds.items() if mode in kind.modes}


def _kind(data: dict[str, Any]) -> TierKind:
    modes = {mode: _form(form) for mode, form in data.items() if mode != "summary"}
    return TierKind(summary=data["summary"], modes=modes)


def _form(data: dict[str, Any]) -> TierSpec:
    return TierSpec(
        **{
            **data,
            "refused_on": tuple(data.get("refused_on", ())),
            "instead": tuple(
                TierVariant(**{**item, "when": parse_when(item["when"])})
                for item in data.get("instead", ())
            ),
            "refuses": _refusals(data.get("refuses", ())),
            "wants": _refusals(data.get("wants", ())),
        }
    )


def _refusals(items: Any) -> tuple[TierConstraint, ...]:
    return tuple(TierConstraint(**{**item, "when": parse_when(item["when"])}) for item in items)
