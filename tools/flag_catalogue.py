"""Describe one argparse option as a catalogue entry; shared by the ``dump_*`` scripts.

Those scripts run under an engine's interpreter, so this file uses only the standard library.
"""

from __future__ import annotations

import argparse
import enum
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Entry = dict[str, Any]

HELP_LENGTH = 160

PLAIN_TYPES: dict[str, list[str]] = {
    "str": ["string"],
    "int": ["integer"],
    "float": ["number"],
    "bool": ["boolean"],
    "loads": ["object"],
}
WRAPPERS = {"optional_type": True, "parse_type": False}  # name: does it accept "None"?
SWITCHES = ("_StoreTrueAction", "_StoreFalseAction")


class CallableTypes:
    """Map a ``type=`` callable to JSON type names; remember those nobody has mapped."""

    def __init__(self, known: dict[str, list[str]] | None = None) -> None:
        self.known = {**PLAIN_TYPES, **(known or {})}
        self.unmapped: set[str] = set()

    def resolve(self, convert: Callable[..., Any] | None) -> tuple[list[str], bool]:
        """Return the JSON types a callable accepts, and whether it accepts ``None``."""
        if convert is None:
            return ["string"], False
        name = getattr(convert, "__qualname__", repr(convert))
        outer = name.split(".", 1)[0]
        if outer in WRAPPERS and "<locals>" in name:
            inner = next(c.cell_contents for c in getattr(convert, "__closure__", None) or ())
            types, nullable = self.resolve(inner)
            return types, nullable or WRAPPERS[outer]
        if name not in self.known:
            self.unmapped.add(name)
        return self.known.get(name, ["string"]), False


def describe_options(
    actions: Iterable[argparse.Action],
    types: CallableTypes,
    extra_types: dict[str, list[str]] | None = None,
) -> dict[str, Entry]:
    """Return an entry for each option of a parser, keyed by its long flag in snake case.

    Positional arguments and ``--help`` are left out. ``extra_types`` adds types to the options
    named there, for values that the program parses itself after argparse.
    """
    entries: dict[str, Entry] = {}
    for action in actions:
        if not action.option_strings or isinstance(action, argparse._HelpAction):
            continue
        entry = describe_option(action, types)
        key = entry["flag"][2:].replace("-", "_")
        entry["types"] = sorted({*entry["types"], *(extra_types or {}).get(key, [])})
        entries[key] = entry
    return entries


def describe_option(action: argparse.Action, types: CallableTypes) -> Entry:
    """Return the catalogue entry of one argparse action."""
    negations, flags = split_negations(action)
    flag = next(f for f in flags if f.startswith("--"))
    entry: Entry = {"flag": flag, "types": []}
    aliases = [other for other in flags if other != flag]
    if aliases:
        entry["aliases"] = sorted(aliases)
    if negations:
        entry["negatable"] = True
    if action.required:
        entry["required"] = True
    add_value_fields(entry, action, types)
    add_default(entry, action.default)
    text = help_text(action)
    if text:
        entry["help"] = first_sentence(text)
    notice = deprecation(text)
    if notice or "Deprecated" in type(action).__name__:
        entry["deprecated"] = notice or "deprecated"
    return entry


def split_negations(action: argparse.Action) -> tuple[list[str], list[str]]:
    """Separate the ``--no-`` forms of an on/off option from its other spellings."""
    if not isinstance(action, argparse.BooleanOptionalAction):
        return [], list(action.option_strings)
    negations = [f for f in action.option_strings if f.startswith("--no-")]
    return negations, [f for f in action.option_strings if f not in negations]


def add_value_fields(entry: Entry, action: argparse.Action, types: CallableTypes) -> None:
    """Fill in what values an option takes: types, number, choices, ``None``."""
    if isinstance(action, argparse.BooleanOptionalAction) or type(action).__name__ in SWITCHES:
        entry["types"] = ["boolean"]
        return
    names, nullable = types.resolve(action.type if callable(action.type) else None)
    names = list(names)
    if action.nargs == "?" and action.const is True:
        names.append("boolean")
    if isinstance(action.default, enum.IntEnum):
        names.append("integer")
    if isinstance(action.default, list) and names == ["object"]:
        entry["json"] = "array"
    entry["types"] = sorted(set(names))
    choices = [c for c in action.choices or () if c is not None]
    if choices:
        entry["choices"] = sorted(choices)
    if nullable or (action.choices and None in action.choices):
        entry["nullable"] = True
    if isinstance(action, argparse._AppendAction):
        entry["many"] = entry["repeat"] = True
    elif action.nargs in ("+", "*"):
        entry["many"] = True


def add_default(entry: Entry, default: Any) -> None:
    """Record a default if JSON can say it and every machine has the same one."""
    if default == argparse.SUPPRESS:
        return
    if isinstance(default, enum.Enum):
        default = default.value
    if isinstance(default, (set, frozenset)):
        default = sorted(default)
    try:
        text = json.dumps(default, sort_keys=True)
    except TypeError:
        return
    if not names_this_machine(text):
        entry["default"] = default


def names_this_machine(text: str) -> bool:
    """Return whether a default in JSON mentions a path or the name of this machine."""
    local = [str(Path.home()), os.uname().nodename, str(Path.cwd())]
    return text.startswith('"/') or any(len(name) > 1 and name in text for name in local)


def help_text(action: argparse.Action) -> str:
    """Return an option's help with argparse's own escapes undone."""
    if not action.help or action.help == argparse.SUPPRESS:
        return ""
    return action.help.replace("%%", "%").strip()


def sentences(text: str) -> list[str]:
    """Split help text into one-line sentences; a blank line ends one too."""
    result: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        result += re.split(r"(?<!e\.g\.)(?<!i\.e\.)(?<=[.!?])\s+(?=[A-Z`\"'\[(-])", line)
    return [s for s in result if s]


def first_sentence(text: str) -> str:
    """Return the first sentence, cut at a word to HELP_LENGTH characters."""
    line = sentences(text)[0]
    if len(line) <= HELP_LENGTH:
        return line
    return line[: HELP_LENGTH - 1].rsplit(" ", 1)[0] + "…"


def deprecation(text: str) -> str:
    """Return the sentences of a help text that retire the option itself, or nothing."""
    retires = re.compile(r"\[deprecated|^\(?deprecated\b|\b(is|are|been) deprecated", re.I)
    found = [i for i, s in enumerate(sentences(text)) if retires.search(s)]
    if not found:
        return ""
    return " ".join(sentences(text)[found[0] : found[0] + 2])[: 2 * HELP_LENGTH]


def write_catalogue(path: str, catalogue: dict[str, Any]) -> None:
    """Write what a dump script found where the caller asked for it."""
    Path(path).write_text(json.dumps(catalogue, sort_keys=True), encoding="utf-8")
