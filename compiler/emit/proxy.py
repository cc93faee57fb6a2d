"""Emit what the proxy is: nginx's configuration, without secrets, and the script that starts it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.addresses import host_port
from compiler.bundle_paths import PROXY_SCRIPT, nginx_file
from compiler.emit.artifact import Artifact, header
from compiler.emit.quoting import nginx_word
from compiler.emit.render import Renderer
from compiler.plan import Plan
from compiler.process import API_KEY, TLS_KEY, Process


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxView:
    """The fields of nginx.conf.j2; every word is quoted.

    both_families: where IPv6's every address is to be IPv4's too, as it is for an engine's server.
    """

    header: tuple[str, ...]
    listen: str
    both_families: str
    health: str
    upstream: str
    authorization: str
    max_body: str
    drain: str
    asks_key: bool
    tls: bool


def emit_proxy(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit both files; only where there is a proxy."""
    if plan.proxy is None:
        return
    text = renderer.render("nginx.conf.j2", _view(plan, plan.proxy))
    yield Artifact(path=nginx_file(plan.proxy.name), text=text)
    yield Artifact(path=PROXY_SCRIPT, text=renderer.static(PROXY_SCRIPT))


def check_command(process: Process) -> tuple[str, ...]:
    """Return the words that find out, before anything starts, whether a proxy can."""
    return ("/bin/bash", PROXY_SCRIPT, "--check", str(process.listens[0].port))


def _view(plan: Plan, proxy: Process) -> NginxView:
    front, health = proxy.listens
    behind = plan.api.listens[0]
    options = proxy.launch.engine_args
    return NginxView(
        header=header(plan),
        listen=nginx_word(host_port(front.host, front.port)),
        both_families=" ipv6only=off" if front.host == "::" else "",
        health=nginx_word(host_port(health.host, health.port)),
        upstream=nginx_word(host_port(behind.host, behind.port)),
        authorization="$http_authorization" if plan.api_asks_key else '""',
        max_body=nginx_word(f"{options['max_request_mb']}m"),
        drain=nginx_word(f"{options['drain_s'] or 1}s"),  # 0 would be without end
        asks_key=API_KEY in proxy.secrets,
        tls=TLS_KEY in proxy.secrets,
    )
