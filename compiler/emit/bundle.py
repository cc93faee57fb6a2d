"""Emit a plan as the files of a bundle: one module an artifact kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.bundle_paths import LIBRARY, PLAN, REDIS_SCRIPT, SERVICE_SCRIPT
from compiler.emit.artifact import Artifact
from compiler.emit.engine_files import emit_engine_files
from compiler.emit.launch import emit_launch
from compiler.emit.modules import emit_modules
from compiler.emit.observability import emit_observability
from compiler.emit.picture.svg import emit_picture
from compiler.emit.process_script import emit_process_scripts
from compiler.emit.readme import emit_readme
from compiler.emit.render import Renderer
from compiler.emit.systemd.units import emit_systemd
from compiler.emit.tiers import emit_tier_library
from compiler.plan import Plan

TEMPLATES = (
    "launch.sh.j2",
    "process.sh.j2",
    "built.sh.j2",
    "bundle_readme.md.j2",
    "service.j2",
    "gpus.service.j2",
    "registrations.service.j2",
    "serving.service.j2",
    "target.j2",
    "topology.svg.j2",
    LIBRARY,
    SERVICE_SCRIPT,
    REDIS_SCRIPT,
    "lib/dync_redis.py",
    "lib/dync_valkey.py",
    "lib/start/sitecustomize.py",
)
_EMITTERS = (
    emit_launch,
    emit_process_scripts,
    emit_engine_files,
    emit_tier_library,
    emit_modules,
    emit_systemd,
    emit_picture,
    emit_observability,
    emit_readme,
)


def emit(plan: Plan, templates: Mapping[str, str]) -> tuple[Artifact, ...]:
    """Return every file of the bundle, in the order of their paths.

    Errors: none; a plan that cannot be emitted is a bug.
    """
    artifacts = [Artifact(path=PLAN, text=plan.to_json()), *emit_beside_plan(plan, templates)]
    return tuple(sorted(artifacts, key=lambda artifact: artifact.path))


def emit_beside_plan(plan: Plan, templates: Mapping[str, str]) -> Iterator[Artifact]:
    """Return every file of the bundle but plan.json."""
    renderer = Renderer(templates)
    for emitter in _EMITTERS:
        yield from emitter(plan, renderer)
