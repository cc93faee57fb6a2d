"""Emit launch.sh and the shell library it stands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.addresses import host_port
from compiler.bundle_paths import BUILT, LAUNCH_SCRIPT, LIBRARY, OWNERS_LIBRARY
from compiler.emit.artifact import Artifact, header
from compiler.emit.quoting import shell_word
from compiler.emit.render import Renderer
from compiler.plan import Plan
from compiler.process import Process, WithoutLmcache
from compiler.stacks.placeholders import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """One process as launch.sh sees it; every field is a shell word."""

    name: str
    ready_host: str
    ready_port: str
    ready_path: str
    ready_body: str
    ready_key_file: str
    ready_timeout_s: str
    stop_s: str
    after: str
    listens: str
    ready_protocol: str
    only_with_lmcache: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchView:
    """The fields of launch.sh.j2."""

    header: tuple[str, ...]
    name: str
    url: str
    processes: tuple[ProcessView, ...]
    registrations: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltView:
    """The fields of built.sh.j2: what the launch-time switches are checked against."""

    header: tuple[str, ...]
    mode: str
    chunk_size: str
    chunk_multiple: str
    cpu_gb: str
    local_cpu: str
    tiers: str


def emit_launch(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit the launcher; its processes stand in the plan's order, dependencies first."""
    cache = plan.lmcache
    launch = LaunchView(
        header=header(plan),
        name=shell_word(plan.name),
        url=shell_word(plan.url),
        processes=tuple(_view(process) for process in plan.processes),
        registrations=shell_word(plan.registrations) if plan.registrations else "",
    )
    built = BuiltView(
        header=header(plan),
        mode=shell_word(cache.mode.value if cache.enabled else "off"),
        chunk_size=shell_word(str(cache.chunk_size)),
        chunk_multiple=shell_word(str(cache.chunk_multiple)),
        cpu_gb=shell_word(text_of(cache.cpu_cache_gb)),
        local_cpu=shell_word("True"),
        tiers=shell_word(" ".join(tier_kinds(plan))),
    )
    yield Artifact(
        path=LAUNCH_SCRIPT, text=renderer.render("launch.sh.j2", launch), executable=True
    )
    yield Artifact(path=BUILT, text=renderer.render("built.sh.j2", built))
    for library in (LIBRARY, OWNERS_LIBRARY):
        yield Artifact(path=library, text=renderer.static(library))


def tier_kinds(plan: Plan) -> tuple[str, ...]:
    """Name the kinds of storage tiers that a plan has, in the order in which they are asked."""
    kinds = (tier.kind for process in plan.processes for tier in process.tiers)
    return tuple(dict.fromkeys(kinds))


def _view(process: Process) -> ProcessView:
    ready = process.ready
    listens = " ".join(host_port(listen.host, listen.port) for listen in process.listens)
    return ProcessView(
        name=shell_word(process.name),
        ready_host=shell_word(ready.host),
        ready_port=shell_word(str(ready.port)),
        ready_path=shell_word(ready.path),
        ready_body=shell_word(ready.body),
        ready_key_file=shell_word(ready.key_file),
        ready_timeout_s=shell_word(str(ready.timeout_s)),
        stop_s=shell_word(str(process.stop_s)),
        after=shell_word(" ".join(process.after)),
        listens=shell_word(listens),
        ready_protocol=shell_word(ready.protocol.value),
        only_with_lmcache=process.without_lmcache is WithoutLmcache.NOT_STARTED,
    )
