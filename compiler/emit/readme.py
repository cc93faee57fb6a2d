"""Emit the bundle's README.md: what this is, how to start, stop and check it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from compiler.emit.artifact import Artifact, header
from compiler.emit.quoting import html_comment, markdown, shell_word
from compiler.emit.render import Renderer
from compiler.emit.tiers import server_checks
from compiler.plan import Plan
from compiler.process import Process


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
    named: str
    authorization: str
    request: str
    rows: tuple[RowView, ...]
    needs: tuple[str, ...]


def emit_readme(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit the page for whoever finds the bundle on a host."""
    body = {"model": plan.served_name, "prompt": "Hello", "max_tokens": 8}
    view = ReadmeView(
        header=tuple(map(html_comment, header(plan))),
        name=plan.name,
        stack=markdown(plan.stack),
        model=markdown(plan.model),
        topology=plan.topology.value,
        cache=_cache(plan),
        url=plan.url,
        named=_named(plan),
        authorization=_authorization(plan),
        request=shell_word(json.dumps(body)),
        rows=tuple(_row(process) for process in plan.processes),
        needs=_needs(plan),
    )
    yield Artifact(path="README.md", text=renderer.render("bundle_readme.md.j2", view))


def _cache(plan: Plan) -> str:
    """Say what caches: the mode, the host memory, then the storage tiers as they are asked."""
    cache = plan.lmcache
    if not cache.enabled:
        return "off"
    memory = f"{cache.mode.value}, chunks of {cache.chunk_size} tokens, {cache.cpu_cache_gb:g} GiB"
    places = (tier.place for process in plan.processes for tier in process.tiers)
    return "; ".join((memory, *dict.fromkeys(map(markdown, places))))


def _needs(plan: Plan) -> tuple[str, ...]:
    """Say what must run before the deployment starts; no line where nothing must."""
    servers = dict.fromkeys(
        f"{check.host}:{check.port}"
        for process in plan.processes
        for check in server_checks(plan, process)
        if check.store is None
    )
    services = [f"{service.purpose} at {markdown(service.url)}" for service in plan.services]
    listed = [*services, *(f"the server of a storage tier at {place}" for place in servers)]
    return (f"Must run already: {', '.join(listed)}.", "") if listed else ()


def _authorization(plan: Plan) -> str:
    """Return curl's options for a deployment with TLS or a key, with a space after them."""
    file, certificate = plan.api_key_file, plan.certificate_file
    trust = f"--cacert {shell_word(certificate)} " if certificate else ""
    return trust + (f'-H "Authorization: Bearer $(cat {shell_word(file)})" ' if file else "")


def _named(plan: Plan) -> str:
    """Say by which name a deployment with TLS is asked; nothing of others."""
    if not plan.certificate_file:
        return ""
    return " by the name in its certificate, instead of the address below"


def _row(process: Process) -> RowView:
    return RowView(
        name=markdown(process.name),
        kind=process.role.value if process.role else process.kind.value,
        gpus=", ".join(map(markdown, process.gpus)) or "-",
        ports=", ".join(
            f"{listen.port} ({markdown(listen.purpose)})" for listen in process.listens
        ),
        after=", ".join(map(markdown, process.after)) or "-",
        ready=markdown(process.ready.url),
    )
