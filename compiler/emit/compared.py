"""The files by which deployments differ, each made when it is asked for.

plan.json, units of no process and a user's say nothing more: a user's are made of the same facts as
the system's.
The files of thousands of workers are never held together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from compiler.bundle_paths import (
    SERVICE_SCRIPT,
    UNITS_FOLDER,
    engine_file,
    lmcache_file,
    process_script,
)
from compiler.emit.artifact import header
from compiler.emit.bundle import WHOLE_EMITTERS
from compiler.emit.engine_files import engine_text, lmcache_text, option_lines
from compiler.emit.process_script import script_text, script_view
from compiler.emit.render import Renderer
from compiler.emit.systemd.unit_names import process_unit
from compiler.emit.systemd.units import system_unit_text, system_unit_view
from compiler.plan import Plan
from compiler.process import Kind, Launch, Process

_encode = json.JSONEncoder().encode  # which keeps the order of keys


class ComparedTexts(Mapping[str, str]):
    """The texts of a plan by their paths; those of one process are made anew each time."""

    def __init__(self, plan: Plan, templates: Mapping[str, str]) -> None:
        self._plan = plan
        self._renderer = Renderer(templates)
        self._lines = header(plan)
        self._whole = {
            artifact.path: artifact.text
            for emitter in WHOLE_EMITTERS
            for artifact in emitter(plan, self._renderer)
        }
        self._whole[SERVICE_SCRIPT] = self._renderer.static(SERVICE_SCRIPT)
        self._made = {
            path: (make, process)
            for process in plan.processes
            for path, make in self._makers(process)
        }

    def __getitem__(self, path: str) -> str:
        if path in self._whole:
            return self._whole[path]
        make, process = self._made[path]
        return make(process)

    def says(self, path: str) -> str | None:
        """Return what an engine's file says, as JSON: two such files differ just where these do.

        None for any other file.
        """
        make, process = self._made.get(path, (None, None))
        if process is None or make not in (self._engine, self._engine_off, self._lmcache):
            return None
        if make == self._lmcache:
            return _encode(process.launch.lmcache_config)
        launch = process.launch if make == self._engine else process.without_lmcache
        return _encode(option_lines(launch)) if isinstance(launch, Launch) else None

    def made_of(self, path: str) -> object:
        """Return what a process's file is made of but for its comments: equal, and so is the file.

        It costs a part of the text; None for a file of the whole deployment, or of none.
        """
        make, process = self._made.get(path, (None, None))
        if process is not None and make == self._script:
            return script_view(self._plan, process, ())
        if process is not None and make == self._unit:
            return system_unit_view(self._plan, process, ())
        return None

    def __contains__(self, path: object) -> bool:
        return path in self._whole or path in self._made

    def __iter__(self) -> Iterator[str]:
        yield from self._whole
        yield from self._made

    def __len__(self) -> int:
        return len(self._whole) + len(self._made)

    def _makers(self, process: Process) -> Iterator[tuple[str, Callable[[Process], str]]]:
        yield process_script(process.name), self._script
        yield f"{UNITS_FOLDER}/{process_unit(self._plan.name, process.name)}", self._unit
        if process.kind is not Kind.WORKER:
            return
        yield engine_file(process.name), self._engine
        if isinstance(process.without_lmcache, Launch):
            yield engine_file(process.name, with_lmcache=False), self._engine_off
        if process.launch.lmcache_config:
            yield lmcache_file(process.name), self._lmcache

    def _script(self, process: Process) -> str:
        return script_text(self._plan, process, self._renderer, self._lines)

    def _unit(self, process: Process) -> str:
        return system_unit_text(self._plan, process, self._renderer, self._lines)

    def _engine(self, process: Process) -> str:
        return engine_text(process.launch, self._lines)

    def _engine_off(self, process: Process) -> str:
        off = process.without_lmcache
        return engine_text(off, self._lines) if isinstance(off, Launch) else ""

    def _lmcache(self, process: Process) -> str:
        return lmcache_text(process.launch, self._lines)
