"""What a cache server says of itself on its HTTP port.

Source: lmcache 0.5.6 lmcache/v1/multiprocess/http_apis/info_api.py (/status, /healthcheck) and
config_api.py (/config), run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.deploy.probe.http_client import get_json, process_url
from compiler.process import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """One moment of a cache server: whether it is well, objects and bytes in memory, chunk size."""

    is_healthy: bool
    chunk_size: int
    objects: int
    used_bytes: int
    total_bytes: int


def server_status(server: Process) -> ServerStatus | None:
    """Ask a cache server; None where it does not answer."""
    found = get_json(process_url(server, "/status"))
    return None if found is None else parse_status(found)


def parse_status(found: Mapping[str, Any]) -> ServerStatus:
    """Read a status; what a release does not say counts as nothing."""
    storage = found.get("storage_manager") or {}
    memory = storage.get("l1_manager") or {}
    return ServerStatus(
        is_healthy=bool(found.get("is_healthy")),
        chunk_size=int(found.get("chunk_size") or 0),
        objects=int(memory.get("total_object_count") or 0),
        used_bytes=int(memory.get("memory_used_bytes") or 0),
        total_bytes=int(memory.get("memory_total_bytes") or 0),
    )
