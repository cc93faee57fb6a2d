"""What an installed deployment does right now, process by process."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from compiler.deploy.host import Deployment
from compiler.deploy.placement import drop_ins
from compiler.deploy.systemd import Systemd
from compiler.plan import Launch, Plan, ProcessName, Protocol, Ready
from compiler.units import process_unit, service_units, target_unit

_WITHIN_S = 5
_NOT_ASKED_SO = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.UNAUTHORIZED)
"""What a server says to a GET where it serves a POST, without the key."""
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # never through a proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process; hit_tokens and asked_tokens are None where its metrics do not have them."""

    name: ProcessName
    state: str
    is_ready: bool
    restarts: int
    since: str
    hit_tokens: float | None
    asked_tokens: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A whole deployment."""

    generation: int | None
    processes: tuple[ProcessStatus, ...]
    drop_ins: tuple[Path, ...]

    @property
    def is_ready(self) -> bool:
        """Whether every process is."""
        return all(process.is_ready for process in self.processes)


def status(deployment: Deployment, plan: Plan, metrics: Mapping[str, str]) -> Status:
    """Look at every process: its unit, its readiness, what its cache did.

    metrics names the stack's metrics, as its status_metrics.
    Errors: Refused where systemd does not answer.
    """
    systemd = Systemd(deployment.host.is_system)
    systemd.refuse_unless_running()
    states = systemd.show(process_unit(plan.name, process.name) for process in plan.processes)
    found = []
    for process in plan.processes:
        state = states[process_unit(plan.name, process.name)]
        is_active = state.active == "active"
        # A worker without LMCache counts what NIXL brings it by the same metric.
        caches = isinstance(process.without_lmcache, Launch)
        text = _get(process.metrics) if is_active and caches else None
        found.append(
            ProcessStatus(
                name=process.name,
                state=f"{state.active} ({state.sub})",
                is_ready=is_active and _is_ready(process.ready),
                restarts=state.restarts,
                since=state.since if is_active else "",
                hit_tokens=_metric(text, metrics.get("hit_tokens")),
                asked_tokens=_metric(text, metrics.get("asked_tokens")),
            )
        )
    return Status(
        generation=deployment.current,
        processes=tuple(found),
        drop_ins=tuple(drop_ins(deployment, (*service_units(plan), target_unit(plan.name)))),
    )


def _is_ready(ready: Ready) -> bool:
    """Tell whether a process that was ready still answers.

    A request that is posted to be ready is not sent again: the cache would count it.
    """
    if ready.protocol is Protocol.REDIS:
        return _answers_ping(ready)
    try:
        with _open(ready.url, timeout=_WITHIN_S) as response:
            return bool(response.status == HTTPStatus.OK)
    except urllib.error.HTTPError as error:
        return bool(ready.body) and error.code in _NOT_ASKED_SO
    except (OSError, ValueError):
        return False


def _answers_ping(ready: Ready) -> bool:
    """Tell whether a Redis answers; to want a password first is an answer too."""
    try:
        with socket.create_connection((ready.host, ready.port), _WITHIN_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _get(url: str) -> str | None:
    try:
        with _open(url, timeout=_WITHIN_S) as response:
            text: str = response.read().decode("utf-8", "replace")
            return text
    except (OSError, urllib.error.URLError, ValueError):
        return None


def _metric(text: str | None, name: str | None) -> float | None:
    """Sum a Prometheus metric over its labels."""
    if text is None or name is None:
        return None
    lines = re.findall(rf"^{re.escape(name)}(?:{{[^\n]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, lines)) if lines else None
