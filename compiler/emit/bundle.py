"""Emit a plan as the files of a bundle: one module an artifact kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

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
WHOLE_EMITTERS: tuple[Emitter, ...] = (
    emit_launch,
    emit_tier_library,
    emit_proxy,
    emit_modules,
    emit_picture,
    emit_observability,
    emit_readme,
)
"""Of files that are a whole deployment's."""
_EMITTERS = (emit_process_scripts, emit_engine_files, emit_systemd, *WHOLE_EMITTERS)


def emit(plan: Plan, templates: Mapping[str, str]) -> tuple[Artifact, ...]:
    """Return every file of the bundle, in the order of their paths.

    Errors: none; a plan that cannot be emitted is a bug.
    """
    return tuple(sorted(Emitted(plan, templates), key=lambda artifact: artifact.path))


@dataclass(frozen=True, slots=True)
class Emitted:
    """Every file of a plan's bundle, made anew each time that one goes through them.

    Those of thousands of workers together are larger than all else of a build.
    """

    plan: Plan
    templates: Mapping[str, str]

    def __iter__(self) -> Iterator[Artifact]:
        yield Artifact(path=PLAN, text=self.plan.to_json())
        renderer = Renderer(self.templates)
        for emitter in _EMITTERS:
            yield from emitter(self.plan, renderer)
