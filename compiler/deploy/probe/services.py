"""Say hello to etcd, NATS and Redis in their own protocols, with a password or without.

Source: Redis' protocol specification (RESP2, AUTH, PING); NATS client protocol (INFO, CONNECT,
PING); etcd 3.4 gRPC gateway, /health. Run against redis-server 7.0, nats-server 2.9 and etcd 3.4.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from compiler.addresses import http_url
from compiler.deploy.probe.http_client import get_json
from compiler.deploy.probe.sockets import NotOurs, Ownership
from compiler.errors import ProbeError
from compiler.process import Process, TierServer
from compiler.write.safe_read import read_named

_WITHIN_S = 5
_MOST = 65536
_NOT_YOU = ("-WRONGPASS", "-NOAUTH", "-ERR AUTH", "-ERR invalid password", "-ERR Client sent AUTH")
"""How Redis 5 to 7 refuse a password, a missing one, and one where none is set."""


def password_of(process: Process, server: TierServer) -> str:
    """Read the password of a tier's server, from where its process reads it.

    Errors: ProbeError.
    """
    file = process.secrets.get(server.secret, "") if server.secret else ""
    try:
        return read_named(Path(file)).decode("utf-8").strip() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no UTF-8 text"
        raise ProbeError(f"its password is in {file}: {why}", is_password=True) from error


def ask_redis(host: str, port: int, password: str, user: str = "") -> str:
    """Ask PING of a server that speaks Redis' protocol, after AUTH where there is a password.

    Errors: ProbeError.
    """
    with _connection(host, port) as (link, lines):
        _authenticate(link, lines, password, user)
        _redis(link, lines, b"PING")
    return f"answers PING{' after AUTH' if password else ''}"


def redis_keys(host: str, port: int, password: str, user: str, own: Ownership) -> int:
    """Count the keys of a server that speaks Redis' protocol.

    own: whose it must be, where it is the deployment's.
    Errors: ProbeError.
    """
    with _connection(host, port, own) as (link, lines):
        _authenticate(link, lines, password, user)
        return int(_redis(link, lines, b"DBSIZE"))


def _authenticate(link: socket.socket, lines: BinaryIO, password: str, user: str) -> None:
    if password:
        _redis(link, lines, b"AUTH", *([user.encode()] if user else []), password.encode())


def _redis(link: socket.socket, lines: BinaryIO, *words: bytes) -> str:
    """Say one command, and return its one-line answer without its mark.

    Errors: ProbeError. What a server refuses quotes nothing of a password.
    """
    sent = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    link.sendall(b"*%d\r\n" % len(words) + sent)
    answer = lines.readline(_MOST).decode("utf-8", "replace").strip()
    if answer.startswith(("+", ":")):
        return answer[1:]
    refused = answer.startswith(_NOT_YOU)
    raise ProbeError(
        f"refuses {words[0].decode()}: {answer.lstrip('-') or 'no answer'}",
        is_password=refused,
    )


def ask_nats(host: str, port: int, user: str, password: str) -> str:
    """Ask PING of a NATS server, as its client would.

    Errors: ProbeError.
    """
    with _connection(host, port) as (link, lines):
        greeting = lines.readline(_MOST).decode("utf-8", "replace")
        if not greeting.startswith("INFO "):
            raise ProbeError("is no NATS server: it does not greet")
        hello = {"verbose": False, "pedantic": False, "lang": "dync", "version": "1"}
        if user or password:
            hello |= {"user": user, "pass": password}
        link.sendall(f"CONNECT {json.dumps(hello)}\r\nPING\r\n".encode())
        answer = lines.readline(_MOST).decode("utf-8", "replace").strip()
    if answer != "PONG":
        raise ProbeError(
            f"refuses the connection: {answer.removeprefix('-ERR ') or 'no answer'}",
            is_password="Authorization" in answer,
        )
    version = json.loads(greeting[5:]).get("version", "of an unknown version")
    return f"NATS {version} answers PING"


def ask_etcd(host: str, port: int, _user: str, _password: str) -> str:
    """Ask an etcd whether it is healthy.

    Errors: ProbeError.
    """
    with _connection(host, port):
        pass
    found = get_json(http_url(host, port, "/health"), _WITHIN_S)
    if found is None:
        raise ProbeError("does not answer /health: no etcd, or one that wants TLS")
    if str(found.get("health")).lower() != "true":
        raise ProbeError(f"says that it is not healthy: {found.get('reason') or found}")
    return "etcd says that it is healthy"


@contextmanager
def _connection(
    host: str, port: int, own: Ownership | None = None
) -> Iterator[tuple[socket.socket, BinaryIO]]:
    """Open a connection and its lines, closed at the end.

    own: whose it must be, where it is the deployment's; any other is its user's word.
    Errors: ProbeError, for whatever goes wrong within.
    """
    try:
        connect = partial(socket.create_connection, (host, port), timeout=_WITHIN_S)
        is_own = own is not None and (host, port) in own.owners
        link = own.connect(connect, host, port) if own and is_own else connect()
    except NotOurs as refusal:
        raise ProbeError(str(refusal)) from refusal
    except OSError as error:
        raise ProbeError(f"cannot be reached: {error.strerror or error}") from error
    with link, link.makefile("rb") as lines:
        try:
            yield link, lines
        except OSError as error:
            raise ProbeError(f"ends the connection: {error.strerror or error}") from error
