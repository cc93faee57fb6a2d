"""Say what is done for a process's storage tiers before it starts: folders, servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.bundle_paths import REDIS_SCRIPT
from compiler.emit.artifact import Artifact
from compiler.emit.render import Renderer
from compiler.plan import Plan
from compiler.process import Process, ProcessName, Tier, TierServer

MANAGED_WITHIN_S, REQUIRED_WITHIN_S = 30, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCheck:
    """One server that is asked before a process starts; secret names the password, file holds it.

    within_s: how long it may take to answer. store: the process that it is, where the deployment
    starts it itself.
    """

    host: str
    port: int
    username: str
    secret: str
    file: str
    within_s: int
    required: bool
    store: ProcessName | None


def emit_tier_library(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit what starts a managed store; only where there is one."""
    if plan.stores:
        yield Artifact(path=REDIS_SCRIPT, text=renderer.static(REDIS_SCRIPT))


def folders(process: Process) -> tuple[Tier, ...]:
    """Return the tiers that have a folder."""
    return tuple(tier for tier in process.tiers if tier.folder)


def folder_words(tier: Tier) -> tuple[str, str, str]:
    """Return a folder, the bytes that may lie there at a start ("": all), "shared" where it is."""
    keep = "" if tier.keep_bytes is None else str(tier.keep_bytes)
    return tier.folder, keep, "shared" if tier.shared else ""


def server_checks(plan: Plan, process: Process) -> tuple[ServerCheck, ...]:
    """Return the servers that a process's tiers are kept in, each once."""
    servers = dict.fromkeys(tier.server for tier in process.tiers if tier.server)
    return tuple(_check(plan, process, server) for server in servers)


def _check(plan: Plan, process: Process, server: TierServer) -> ServerCheck:
    place = (server.host, server.port)
    stores = [it.name for it in plan.stores for at in it.listens if (at.host, at.port) == place]
    required_s = REQUIRED_WITHIN_S if server.required else 0
    return ServerCheck(
        host=server.host,
        port=server.port,
        username=server.username,
        secret=server.secret,
        file=process.secrets.get(server.secret, ""),
        within_s=MANAGED_WITHIN_S if stores else required_s,
        required=server.required,
        store=stores[0] if stores else None,
    )
