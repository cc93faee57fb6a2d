"""Emit the Python modules that processes are given by their PYTHONPATH."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.emit.artifact import Artifact
from compiler.emit.render import Renderer
from compiler.plan import Plan

MODULES: Mapping[str, tuple[str, ...]] = {
    "lib": ("lib/dync_redis.py", "lib/dync_valkey.py"),  # what LMCache loads as plugins
    "lib/start": ("lib/start/sitecustomize.py",),  # what Python loads itself
    "lib/events": ("lib/events/sitecustomize.py",),  # the same, for a frontend
}
"""The files below each folder that a stack or a tier names as PYTHONPATH."""


def emit_modules(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit the modules of each folder that some process names."""
    named = {process.env.get("PYTHONPATH") for process in plan.processes}
    for folder, paths in MODULES.items():
        if folder in named:
            yield from (Artifact(path=path, text=renderer.static(path)) for path in paths)
