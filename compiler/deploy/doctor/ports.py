"""Ports: each one that the plan listens on must be free, or be this deployment's own already."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

from compiler.addresses import reachable
from compiler.deploy.accounts import find_account
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.deploy.probe.processes import Running, listening, oldest
from compiler.deploy.probe.sockets import NotOurs, holder_at, listening_at
from compiler.process import Listen, Process


def check(subject: Subject) -> Iterator[Finding]:
    """Try to listen on every port, as its process would."""
    own = {item.port for process in subject.running for item in process.listens}
    owners: dict[int, frozenset[int]] | None = None
    free = []
    for process in subject.plan.processes:
        for item in process.listens:
            error = _bind(item)
            if error is None:
                free.append(str(item.port))
                continue
            owners = listening() if owners is None else owners
            holder = oldest(owners.get(item.port, frozenset()) - {0})
            is_own = item.port in own and _is_of_account(subject, item)
            if error.errno == errno.EADDRINUSE and is_own:
                yield _own(process, item, holder)
            else:
                yield _taken(process, item, error, holder)
    if free:
        yield passed("ports", subject.plan.name, f"free: {', '.join(free)}")


def _bind(item: Listen) -> OSError | None:
    """Listen on a port for a moment; return what is in the way."""
    family = socket.AF_INET6 if ":" in item.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the engines do: a port in TIME_WAIT may be taken again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((item.host, item.port))
            probe.listen(1)
    except OSError as error:
        return error
    return None


def _is_of_account(subject: Subject, item: Listen) -> bool:
    """Return whether a port is held by the account that the deployment runs as.

    Arguments prove nothing of another account's process: anybody can be started with the same.
    """
    uids = {os.geteuid()}
    with suppress(OSError):
        uids.add(os.stat(subject.folder).st_uid)
    if subject.account and (found := find_account(subject.host, subject.account)):
        uids = {found[0]}
    try:
        return all(it.uid in uids for it in listening_at(reachable(item.host), item.port))
    except NotOurs:
        return False


def _own(process: Process, item: Listen, holder: Running | None) -> Finding:
    pid = f" (pid {holder.pid})" if holder else ""
    return warned(
        "ports", f"port {item.port}",
        f"{process.name} wants it ({item.purpose}), and this deployment runs there already{pid}",
        "nothing, or stop it first",
    )  # fmt: skip


def _taken(process: Process, item: Listen, error: OSError, holder: Running | None) -> Finding:
    where = f"port {item.port}"
    what = f"{process.name} wants it ({item.purpose})"
    if error.errno != errno.EADDRINUSE:
        return failed(
            "ports", where, f"{what} on {item.host}: {error.strerror}",
            "frontend.host, or another port",
        )  # fmt: skip
    held = holder_at(reachable(item.host), item.port)
    by = f" by {held}" if held else ""
    by += f": {' '.join(holder.argv)[:100]}" if holder else ""
    return failed(
        "ports", where, f"{what}; it is taken{by}",
        "end that process, or choose another port: frontend.port, workers[].port",
    )  # fmt: skip
