"""Emit a plan as the files of a bundle: one module an artifact kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from compiler.bundle_paths import (
    LIBRARY,
    OWNERS_LIBRARY,
    PLAN,
    PROXY_SCRIPT,
    REDIS_SCRIPT,
    SERVICE_SCRIPT,
)
from compiler.emit.artifact import Artifact
from compiler.emit.engine_files import emit_engine_files
from compiler.emit.launch import emit_launch
from compiler.emit.modules import emit_modules
from compiler.emit.observability import emit_observability
from compiler.emit.picture.svg import emit_picture
from compiler.emit.process_script import emit_process_scripts
from compiler.emit.proxy import emit_proxy
from compiler.emit.readme import emit_readme
from compiler.emit.render import Renderer
from compiler.emit.systemd.units import emit_system_units, emit_systemd
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
    "nginx.conf.j2",
    "topology.svg.j2",
    LIBRARY,
    OWNERS_LIBRARY,
    SERVICE_SCRIPT,
    REDIS_SCRIPT,
    PROXY_SCRIPT,
    "lib/dync_redis.py",
    "lib/dync_valkey.py",
    "lib/events/sitecustomize.py",
    "lib/start/sitecustomize.py",
)
Emitter = Callable[[Plan, Renderer], Iterator[Artifact]]
_EMITTERS: tuple[Emitter, ...] = (
    emit_launch,
    emit_process_scripts,
    emit_engine_files,
    emit_tier_library,
    emit_proxy,
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
    artifacts = [Artifact(path=PLAN, text=plan.to_json()), *_emitted(plan, templates, _EMITTERS)]
    return tuple(sorted(artifacts, key=lambda artifact: artifact.path))


def emit_compared(plan: Plan, templates: Mapping[str, str]) -> Iterator[Artifact]:
    """Return the files by which deployments differ: plan.json and a user's units say nothing more.

    A user's units are made of the same facts as the system's.
    """
    emitters = (emit_system_units if one is emit_systemd else one for one in _EMITTERS)
    yield from _emitted(plan, templates, emitters)


def _emitted(
    plan: Plan, templates: Mapping[str, str], emitters: Iterable[Emitter]
) -> Iterator[Artifact]:
    renderer = Renderer(templates)
    for emitter in emitters:
        yield from emitter(plan, renderer)
