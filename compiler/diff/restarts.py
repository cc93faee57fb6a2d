"""Tell what differs for each process between two bundles, and which processes must restart."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from compiler.bundle_paths import (
    PLAN,
    UNITS_FOLDER,
    engine_file,
    lmcache_file,
    nginx_file,
    process_script,
)
from compiler.emit.compared import ComparedTexts
from compiler.emit.modules import MODULES
from compiler.emit.systemd.unit_names import process_unit, restarted_with
from compiler.plan import Plan, Source
from compiler.process import Launch, Listen, Process, ProcessName

Texts = Mapping[str, str]
_COMMENT = re.compile("^#.*\n?", re.MULTILINE)
_encode = json.JSONEncoder().encode  # which keeps the order of keys, and 1 apart from true and 1.0


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

    @property
    def is_emitted(self) -> bool:
        """Whether this very program makes the texts of the plan.

        Where a process is the same in two such bundles, and all else that its files are made of,
        nobody needs to look at them.
        """
        return isinstance(self.texts, ComparedTexts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One process: its fate, and the process that takes it along."""

    process: ProcessName
    action: Action
    because_of: ProcessName | None = None


def own_texts(bundle: Bundle, process: ProcessName) -> dict[str, str]:
    """Return what decides how a process runs: its unit and its engine's files, without comments."""
    paths = _own_paths(bundle, process)
    return {path: _meant(bundle.texts[path]) for path in paths if path in bundle.texts}


def _own_paths(bundle: Bundle, process: ProcessName) -> tuple[str, ...]:
    unit = process_unit(bundle.plan.name, process)
    its = bundle.plan.by_name.get(process)
    return (
        f"{UNITS_FOLDER}/{unit}",
        engine_file(process),
        lmcache_file(process),
        nginx_file(process),
        *(_read_when_it_starts(its) if its else ()),
    )


def _read_when_it_starts(process: Process) -> Iterator[str]:
    """Return the programs and modules of the bundle that a process keeps as it has read them."""
    yield from (word for word in process.argv if word.startswith("lib/"))
    yield from MODULES.get(process.env.get("PYTHONPATH", ""), ())


def changes(old: Bundle | None, new: Bundle) -> tuple[Change, ...]:
    """Compare two bundles process by process: the new one's in its order, then those that stop."""
    before = set(_names(old)) if old else set()
    alike = _alike(old, new) if old else set()
    found = {
        name: Change(process=name, action=Action.KEEPS)
        if name in alike
        else _change(old if name in before else None, new, name)
        for name in _names(new)
    }
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
    for name in _alike(old, new):
        owned |= {process_script(name), engine_file(name, with_lmcache=False)}
    skipped = (f"{UNITS_FOLDER}/", PLAN)
    paths = sorted({*old.texts, *new.texts} - owned)
    return tuple(path for path in paths if not path.startswith(skipped) and _differ(old, new, path))


def _alike(old: Bundle, new: Bundle) -> set[ProcessName]:
    """Return the processes whose files are the same, since all that they are made of is."""
    if not (old.is_emitted and new.is_emitted) or _around(old.plan) != _around(new.plan):
        return set()
    before = old.plan.by_name
    return {
        process.name
        for process in new.plan.processes
        if (there := before.get(process.name)) == process and _written(there) == _written(process)
    }


def _written(process: Process) -> str:
    """Return the mappings of a process as files have them: equal ones may be written otherwise."""
    forms = (process.launch, process.without_lmcache)
    return _encode(
        [
            process.secrets,
            *(
                (form.env, form.engine_args, form.kv_transfer_config, form.lmcache_config)
                for form in forms
                if isinstance(form, Launch)
            ),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """What the files of one process are made of beside it: facts of the whole, other kinds."""

    whole: Plan
    cache_servers: tuple[ProcessName, ...]
    behind_proxy: tuple[Listen, ...]
    api_asks_key: bool


def _around(plan: Plan) -> _Around:
    """Return it without what the profile's text is, which stands in comments."""
    nothing = Source(files=(), overrides={})
    return _Around(
        whole=replace(plan, source=nothing, processes=plan.stores),
        cache_servers=tuple(server.name for server in plan.cache_servers),
        behind_proxy=plan.api.listens,
        api_asks_key=plan.api_asks_key,
    )


def _names(bundle: Bundle) -> list[ProcessName]:
    return [process.name for process in bundle.plan.processes]


def _change(old: Bundle | None, new: Bundle, name: ProcessName) -> Change:
    if old is None:
        return Change(process=name, action=Action.STARTS)
    paths = dict.fromkeys((*_own_paths(old, name)[::-1], *_own_paths(new, name)[::-1]))
    is_same = not any(_differ(old, new, path) for path in paths)  # the cheapest to make first
    return Change(process=name, action=Action.KEEPS if is_same else Action.RESTARTS)


def file_lines(old: Bundle, new: Bundle, process: ProcessName) -> Iterator[str]:
    """Return the lines in which the files that decide how a process runs differ."""
    texts_before, texts_after = own_texts(old, process), own_texts(new, process)
    for path in sorted({*texts_before, *texts_after}):
        before = texts_before.get(path, "").splitlines()
        after = texts_after.get(path, "").splitlines()
        if before == after:
            continue
        yield path
        for line in difflib.unified_diff(before, after, n=0, lineterm=""):
            if not line.startswith(("---", "+++", "@@")):
                yield f"  {line[0]} {line[1:]}"


def _differ(old: Bundle, new: Bundle, path: str) -> bool:
    """Return whether a file differs but for its comments."""
    if isinstance(old.texts, ComparedTexts) and isinstance(new.texts, ComparedTexts):
        said, says = old.texts.says(path), new.texts.says(path)
        if said is not None and says is not None:
            return said != says
        made_of = old.texts.made_of(path)
        if made_of is not None and made_of == new.texts.made_of(path):
            return False
    before, after = old.texts.get(path, ""), new.texts.get(path, "")
    return before != after and _meant(before) != _meant(after)


def _meant(text: str) -> str:
    """Drop comment lines: they name the profile and the command, and change with those."""
    return _COMMENT.sub("", text)
