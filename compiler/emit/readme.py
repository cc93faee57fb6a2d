"""Emit the bundle's README.md: what this is, how to start, stop and check it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from compiler.emit.artifact import Artifact, header
from compiler.plan import Plan, Process
from compiler.quoting import comment, shell_word
from compiler.render import Renderer


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One process of the table."""

    name: str
    kind: str
    gpus: str
    ports: str
    after: str
    ready: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadmeView:
    """The fields of bundle_readme.md.j2."""

    header: tuple[str, ...]
    name: str
    stack: str
    model: str
    topology: str
    cache: str
    url: str
    authorization: str
    request: str
    rows: tuple[RowView, ...]
    needs: tuple[str, ...]


def emit_readme(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit the page for whoever finds the bundle on a host."""
    cache = plan.lmcache
    body = {"model": plan.served_name, "prompt": "Hello", "max_tokens": 8}
    view = ReadmeView(
        header=header(plan),
        name=plan.name,
        stack=plan.stack,
        model=comment(plan.model),
        topology=plan.topology.value,
        cache=f"{cache.mode.value}, chunks of {cache.chunk_size} tokens, {cache.cpu_cache_gb:g} GiB"
        if cache.enabled
        else "off",
        url=plan.url,
        authorization=_authorization(plan),
        request=shell_word(json.dumps(body)),
        rows=tuple(_row(process) for process in plan.processes),
        needs=_needs(plan),
    )
    yield Artifact(path="README.md", text=renderer.render("bundle_readme.md.j2", view))


def _needs(plan: Plan) -> tuple[str, ...]:
    """Say what must run before the deployment starts; no line where nothing must."""
    if not plan.services:
        return ()
    listed = ", ".join(f"{service.purpose} at {service.url}" for service in plan.services)
    return (f"Must run already: {listed}.", "")


def _authorization(plan: Plan) -> str:
    """Give curl's header for a deployment that asks for a key, with a space after it."""
    file = plan.api_key_file
    return f'-H "Authorization: Bearer $(cat {shell_word(file)})" ' if file else ""


def _row(process: Process) -> RowView:
    return RowView(
        name=process.name,
        kind=process.role.value if process.role else process.kind.value,
        gpus=", ".join(process.gpus) or "-",
        ports=", ".join(f"{listen.port} ({listen.purpose})" for listen in process.listens),
        after=", ".join(process.after) or "-",
        ready=process.ready.url,
    )
