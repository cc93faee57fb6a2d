"""Find whose the sockets are that listen at an address: by their account, and by who holds them.

The accounts stand in /proc/net/tcp, for everybody to read; who holds a socket is seen of one's own
processes alone, and by root of all.
Source: Linux, Documentation/networking/proc_net_tcp.rst; proc(5), /proc/PID/fd.
"""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from compiler.deploy.launch.marks import account_name

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS = "0A"
_ANY4, _ANY6 = "0" * 8, "0" * 32
_MAPPED = "0000000000000000FFFF0000"


Connected = TypeVar("Connected")


class NotOurs(OSError):
    """A port that is another's, or nobody can tell whose; the text says so."""


@dataclass(frozen=True, slots=True)
class Socket:
    """One socket that listens, and the account that made it."""

    inode: int
    uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose the sockets of a process must be: of these accounts, and held by such a process."""

    uids: frozenset[int]
    is_own: Callable[[int], bool]


def listening_at(host: str, port: int) -> tuple[Socket, ...]:
    """Return the sockets at which a connection to an address would arrive.

    Those bound to that very address, or else to all; for a name, all on the port.
    Errors: NotOurs where nobody can tell.
    """
    ranks = _ranks(host)
    found: dict[int, list[Socket]] = {}
    for table in _TABLES:
        for address, inode, uid in _rows(table, port):
            rank = ranks.get(address) if ranks else 0
            if rank is not None:
                found.setdefault(rank, []).append(Socket(inode, uid))
    return tuple(found[min(found)]) if found else ()


def _ranks(host: str) -> dict[str, int]:
    """Return which addresses of /proc/net/tcp take a connection to a host, the nearest first."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0].strip("[]"))
    except ValueError:
        return {}
    exact = "".join(
        f"{word:08X}" for word in struct.unpack(f"={len(address.packed) // 4}I", address.packed)
    )
    if address.version == 6:
        return {exact: 0, _ANY6: 2}
    return {exact: 0, _MAPPED + exact: 0, _ANY4: 1, _ANY6: 2}


def _rows(table: Path, port: int) -> Iterator[tuple[str, int, int]]:
    try:
        lines = table.read_text("ascii").splitlines()[1:]
    except FileNotFoundError:  # a kernel without IPv6
        if table == _TABLES[0]:
            raise NotOurs(f"{table} is not there: nobody can tell whose port {port} is") from None
        return
    except OSError as error:
        raise NotOurs(f"{table}: {error.strerror}: nobody can tell whose port {port} is") from error
    for line in lines:
        words = line.split()
        address, _, at = words[1].partition(":")
        if words[3] == _LISTENS and int(at, 16) == port:
            yield address, int(words[9]), int(words[7])


def refuse_strangers(owner: Owner, host: str, port: int) -> frozenset[int]:
    """Return the inodes of the sockets that listen at an address, all of them an owner's.

    Errors: NotOurs, with who holds the port.
    """
    sockets = listening_at(host, port)
    held = _holders(sockets)
    for item in sockets:
        pids = [pid for pid in held[item.inode] if _uid_of(pid) is not None]
        mine = any(_uid_of(pid) in owner.uids and owner.is_own(pid) for pid in pids)
        if not (mine or (not pids and item.uid in owner.uids)) and item in listening_at(host, port):
            raise NotOurs(f"port {port} is held by {_said(item, pids)}, and not by this deployment")
    return frozenset(item.inode for item in sockets)


def _holders(sockets: Collection[Socket]) -> dict[int, list[int]]:
    """Return who holds each socket, as far as this account may see."""
    names = {f"socket:[{item.inode}]": item.inode for item in sockets}
    found: dict[int, list[int]] = {item.inode: [] for item in sockets}
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc") if names else ())):
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                links = {os.readlink(entry.path) for entry in entries}
        except OSError:  # another account's, or gone
            continue
        for name in links & names.keys():
            found[names[name]].append(pid)
    return found


def _uid_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def holder_at(host: str, port: int) -> str:
    """Say who listens at an address, as far as this account may see; empty where nobody does."""
    try:
        sockets = listening_at(host, port)
    except NotOurs:
        return ""
    return _said(sockets[0], _holders(sockets[:1])[sockets[0].inode]) if sockets else ""


def _said(item: Socket, pids: Collection[int]) -> str:
    account = account_name(item.uid)
    if not pids:
        return f"a process of {account}"
    first = min(pids)
    try:
        name = Path(f"/proc/{first}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        name = "gone"
    return f"pid {first} ({name}) of {account}"


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose the sockets of a deployment must be, by the address at which each is reached."""

    owners: dict[tuple[str, int], Owner]

    def inodes(self, host: str, port: int) -> frozenset[int]:
        """Return the sockets that listen at an address; none are known of what is not its own.

        Errors: NotOurs.
        """
        owner = self.owners.get((host, port))
        return frozenset() if owner is None else refuse_strangers(owner, host, port)

    def connect(self, connect: Callable[[], Connected], host: str, port: int) -> Connected:
        """Connect to an address, to no other's socket than the deployment's own.

        Looked at before and after: a number is not given twice, so one of them took the connection.
        Errors: NotOurs, also where nothing of it listens; those of connect.
        """
        if (host, port) not in self.owners:
            raise NotOurs(f"{host}:{port} is no address of the deployment")
        before = self.inodes(host, port)
        made = connect()
        if not {item.inode for item in listening_at(host, port)} <= before or not before:
            raise NotOurs(f"port {port} changed hands while it was asked")
        return made

    def stranger(self, host: str, port: int) -> str:
        """Say who else holds an address; empty where nobody does."""
        try:
            self.inodes(host, port)
        except NotOurs as refusal:
            return str(refusal)
        return ""
