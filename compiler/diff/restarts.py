"""Tell what differs for each process between two bundles, and which processes must restart."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from compiler.bundle_paths import PLAN, UNITS_FOLDER, engine_file, lmcache_file, nginx_file
from compiler.emit.systemd.unit_names import process_unit, restarted_with
from compiler.plan import Plan
from compiler.process import ProcessName

Texts = Mapping[str, str]


class Action(str, Enum):
    """What becomes of a process when the new bundle is installed over the old one."""

    KEEPS = "keeps running"
    RESTARTS = "restarts"
    STARTS = "starts"
    STOPS = "stops"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A plan and the texts of its files by their paths."""

    plan: Plan
    texts: Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One process: its fate, the lines that differ, and the process that takes it along."""

    process: ProcessName
    action: Action
    lines: tuple[str, ...] = ()
    because_of: ProcessName | None = None


def own_texts(bundle: Bundle, process: ProcessName) -> dict[str, str]:
    """Return what decides how a process runs: its unit and its engine's files, without comments."""
    paths = _own_paths(bundle, process)
    return {path: _meant(bundle.texts[path]) for path in paths if path in bundle.texts}


def _own_paths(bundle: Bundle, process: ProcessName) -> tuple[str, ...]:
    unit = process_unit(bundle.plan.name, process)
    return (
        f"{UNITS_FOLDER}/{unit}",
        engine_file(process),
        lmcache_file(process),
        nginx_file(process),
    )


def changes(old: Bundle | None, new: Bundle) -> tuple[Change, ...]:
    """Compare two bundles process by process: the new one's in its order, then those that stop."""
    before = set(_names(old)) if old else set()
    found = {name: _change(old if name in before else None, new, name) for name in _names(new)}
    for name, change in tuple(found.items()):
        if change.action is Action.RESTARTS:
            for other in restarted_with(new.plan, name):
                if found[other].action is Action.KEEPS:
                    found[other] = Change(process=other, action=Action.RESTARTS, because_of=name)
    gone = [name for name in _names(old) if name not in found] if old else []
    return (*found.values(), *(Change(process=name, action=Action.STOPS) for name in gone))


def other_lines(old: Bundle, new: Bundle) -> tuple[str, ...]:
    """Return the differences in files that restart nothing, such as launch.sh."""
    names = {*_names(old), *_names(new)}
    owned = {path for name in names for side in (old, new) for path in _own_paths(side, name)}
    skipped = (f"{UNITS_FOLDER}/", PLAN)
    paths = sorted({*old.texts, *new.texts} - owned)
    return tuple(
        path
        for path in paths
        if not path.startswith(skipped)
        and _differ(old.texts.get(path, ""), new.texts.get(path, ""))
    )


def _names(bundle: Bundle) -> list[ProcessName]:
    return [process.name for process in bundle.plan.processes]


def _change(old: Bundle | None, new: Bundle, name: ProcessName) -> Change:
    if old is None:
        return Change(process=name, action=Action.STARTS)
    paths = {*_own_paths(old, name), *_own_paths(new, name)}
    if all(old.texts.get(path) == new.texts.get(path) for path in paths):
        return Change(process=name, action=Action.KEEPS)
    lines = tuple(_lines(own_texts(old, name), own_texts(new, name)))
    return Change(process=name, action=Action.RESTARTS if lines else Action.KEEPS, lines=lines)


def _lines(old: Texts, new: Texts) -> Iterator[str]:
    for path in sorted({*old, *new}):
        before, after = old.get(path, "").splitlines(), new.get(path, "").splitlines()
        if before == after:
            continue
        yield path
        for line in difflib.unified_diff(before, after, n=0, lineterm=""):
            if not line.startswith(("---", "+++", "@@")):
                yield f"  {line[0]} {line[1:]}"


def _differ(old: str, new: str) -> bool:
    return old != new and _meant(old) != _meant(new)


def _meant(text: str) -> str:
    """Drop comment lines: they name the profile and the command, and change with those."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
