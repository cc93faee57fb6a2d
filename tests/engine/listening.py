"""What the processes of a running deployment open to the network."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from compiler.plan import Plan


def processes_of(bundle: Path) -> dict[int, psutil.Process]:
    """Return what works in a bundle's folder, with all that it started, by id."""
    home, found = bundle.resolve(), {}
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if Path(os.readlink(f"/proc/{process.pid}/cwd")).is_relative_to(home):
                for item in (process, *process.children(recursive=True)):
                    found[item.pid] = item
    return found


def sockets_of(bundle: Path) -> Iterator[tuple[str, str, int]]:
    """Name each socket of a deployment that the network could reach: who has it, address, port.

    TCP that listens, and UDP that is bound and connected to nobody.
    """
    for process in processes_of(bundle).values():
        with suppress(psutil.NoSuchProcess):
            for item in process.net_connections("inet"):
                is_bound = item.type == socket.SOCK_DGRAM and item.laddr and not item.raddr
                if item.status == psutil.CONN_LISTEN or is_bound:
                    yield process.name(), item.laddr.ip, item.laddr.port


def nothing_listens_beyond(bundle: Path, plan: Plan) -> None:
    """Check that only the port that clients ask may be reached from another host."""
    found = set(sockets_of(bundle))
    ports = {port for _, _, port in found}
    assert {item.port for process in plan.processes for item in process.listens} <= ports
    front = plan.entry.listens[0]
    allowed = (front.host, front.port)
    assert not {
        (name, host, port)
        for name, host, port in found
        if not ipaddress.ip_address(host).is_loopback and (host, port) != allowed
    }
