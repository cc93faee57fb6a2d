"""Addresses of one host: loopback, what reaches a listener, how a host stands in a URL."""

from __future__ import annotations

import re

LOOPBACK = "127.0.0.1"
_LOOPBACKS = re.compile(r"(?:127\.[0-9.]+|localhost|::1)\Z")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to an address."""
    return _LOOPBACKS.match(host) is not None


def reachable(host: str) -> str:
    """Return the address at which a listener on `host` is reached from the same host."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)


def host_port(host: str, port: int) -> str:
    """Write a host and a port; an IPv6 host goes in brackets."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def http_url(host: str, port: int, path: str = "", *, tls: bool = False) -> str:
    """Write an HTTP URL, or an HTTPS one."""
    return f"{'https' if tls else 'http'}://{host_port(host, port)}{path}"
