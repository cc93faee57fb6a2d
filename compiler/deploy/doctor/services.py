"""Services that must run already: etcd, NATS, and tiers that are kept in Redis' protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from compiler.deploy.doctor.ownership import others_of_bundle
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, skipped
from compiler.deploy.probe.services import ask_etcd, ask_nats, ask_redis, password_of
from compiler.errors import ProbeError
from compiler.plan import Plan, Service
from compiler.process import Process, Tier, TierServer

_PORTS = {"etcd": 2379, "nats": 4222}
_ASK = {"etcd": ask_etcd, "nats": ask_nats}


def check(subject: Subject) -> Iterator[Finding]:
    """Ask every service of the plan, with the password that its processes will use."""
    for service in subject.plan.services:
        yield _service(service)
    seen: set[tuple[str, int]] = set()
    is_others = bool(others_of_bundle(subject))
    for process in subject.plan.processes:
        for tier in process.tiers:
            server = tier.server
            if server is not None and (server.host, server.port) not in seen:
                seen.add((server.host, server.port))
                if _is_own(subject.plan, server):
                    continue
                if is_others and server.secret:
                    yield _not_told(tier, server)
                else:
                    yield _redis(process, tier, server)


def _service(service: Service) -> Finding:
    parts = urlsplit(service.url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(service.purpose, 0)
    fix = f"start {service.purpose} at {service.url}, or name where it runs (discovery)"
    if service.purpose not in _ASK:
        return failed("services", service.url, f"nobody knows how to ask {service.purpose}", fix)
    subject = f"{service.purpose} {host}:{port}"
    try:
        said = _ASK[service.purpose](host, port, parts.username or "", parts.password or "")
    except ProbeError as refusal:
        return failed("services", subject, str(refusal), fix)
    return passed("services", subject, said)


def _not_told(tier: Tier, server: TierServer) -> Finding:
    """Tell no password of whoever asks to a server that another account may have named."""
    subject = f"{tier.kind} {server.host}:{server.port}"
    why = "not asked: others can change the bundle that says which password it is told"
    return skipped("services", subject, why, "make the bundle again with dync build")


def _redis(process: Process, tier: Tier, server: TierServer) -> Finding:
    """Ask the server of a tier, as the process will."""
    subject = f"{tier.kind} {server.host}:{server.port}"
    file = process.secrets.get(server.secret, "")
    if file and not os.access(file, os.R_OK):
        return skipped("services", subject, f"not asked: {file} with its password cannot be read")
    try:
        password = password_of(process, server)
        said = ask_redis(server.host, server.port, password, server.username)
        return passed("services", subject, said)
    except ProbeError as refusal:
        where = f"write the right password into {file}" if file else "give the tier a password_file"
        there = f"start it at {server.host}:{server.port}"
        return failed("services", subject, str(refusal), where if refusal.is_password else there)


def _is_own(plan: Plan, server: TierServer) -> bool:
    """Return whether the deployment starts that server itself."""
    return any(item.port == server.port for process in plan.processes for item in process.listens)
