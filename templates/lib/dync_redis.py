"""LMCache's own client for Redis, made anew when its connections are lost.

The client of LMCache 0.5.6 connects once: after Redis has gone, every request of it fails until the
cache server restarts, and one made while Redis is away never answers at all. Loaded by LMCache as
a native plugin (native_plugin_l2_adapter.py); the password comes from the environment.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading

from lmcache.lmcache_redis import LMCacheRedisClient

RETRY_S, TIMEOUT_S = 1.0, 2.0
log = logging.getLogger("lmcache.dync_redis")


class Client:
    """What NativeConnectorL2Adapter calls; requests without a connection fail at once: a miss.

    Every future has a number of this client's own, since each inner client counts from 1.
    is_own: the deployment starts the server itself, as this account; while that restarts, anybody
    could listen on its port.
    """

    def __init__(self, host: str, port: int, num_workers: int = 8, *, is_own: bool = False) -> None:
        self._address = (host, port)
        self._is_own = is_own
        self._workers = num_workers
        self._username = os.environ.get("LMCACHE_RESP_USERNAME", "")
        self._password = os.environ.get("LMCACHE_RESP_PASSWORD", "")
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)  # readable: requests that failed at once
        self._poll = select.epoll()  # one descriptor for as long as this client lives
        self._poll.register(self._wake, select.EPOLLIN)
        self._inner: LMCacheRedisClient | None = None
        self._pending: dict[int, tuple[int, int]] = {}  # inner future: (own future, keys)
        self._failed: list[tuple[int, bool, str, list[bool]]] = []
        self._count = 0
        self._stop = threading.Event()
        self._connect()
        threading.Thread(target=self._keep_connected, daemon=True, name="dync-redis").start()

    def event_fd(self) -> int:
        return self._poll.fileno()

    def submit_batch_get(self, keys: list[str], buffers: list[memoryview]) -> int:
        return self._submit("submit_batch_get", keys, buffers)

    def submit_batch_set(self, keys: list[str], buffers: list[memoryview]) -> int:
        return self._submit("submit_batch_set", keys, buffers)

    def submit_batch_exists(self, keys: list[str]) -> int:
        return self._submit("submit_batch_exists", keys)

    def submit_batch_delete(self, keys: list[str]) -> int:
        return self._submit("submit_batch_delete", keys)

    def drain_completions(self) -> list[tuple[int, bool, str, list[bool] | None]]:
        with self._lock:
            done: list[tuple[int, bool, str, list[bool] | None]] = list(self._failed)
            if self._failed:
                self._failed = []
                os.eventfd_read(self._wake)
            found = self._inner.drain_completions() if self._inner else []
            for inner, ok, error, results in found:
                future, _ = self._pending.pop(int(inner), (0, 0))
                done.append((future, ok, error, results))
                if "socket" in error or "connection" in error:
                    log.warning("Redis at %s:%d is lost: %s", *self._address, error)
                    self._disconnect()
                    break
            return done

    def close(self) -> None:
        self._stop.set()
        with self._lock:
            self._disconnect()

    def _submit(self, request: str, keys: list[str], *rest: list[memoryview]) -> int:
        with self._lock:
            self._count += 1
            if self._inner is None:
                self._fail(self._count, len(keys))
            else:
                inner = int(getattr(self._inner, request)(keys, *rest))
                self._pending[inner] = (self._count, len(keys))
            return self._count

    def _fail(self, future: int, keys: int) -> None:
        self._failed.append((future, False, "no Redis", [False] * keys))
        os.eventfd_write(self._wake, 1)

    def _disconnect(self) -> None:
        """Let go of the inner client; whatever it still owes has failed."""
        inner, self._inner = self._inner, None
        if inner is None:
            return
        self._poll.unregister(inner.event_fd())
        for future, keys in self._pending.values():
            self._fail(future, keys)
        self._pending = {}
        inner.close()

    def _keep_connected(self) -> None:
        while not self._stop.wait(RETRY_S):
            if self._inner is None:
                self._connect()

    def _connect(self) -> None:
        """Make an inner client, of the very sockets that answered.

        It sends the password as soon as it connects, so it is made right after these were looked
        at; where they are others by then, it is let go, and that is said.
        """
        seen = self._sockets()
        if seen is None or not self._answers(seen):
            return
        inner = LMCacheRedisClient(*self._address, self._workers, self._username, self._password)
        if self._sockets() != seen:
            log.error("Redis at %s:%d was replaced while it was connected", *self._address)
            inner.close()
            return
        with self._lock:
            self._inner = inner
            self._poll.register(inner.event_fd(), select.EPOLLIN)
        log.warning("Redis at %s:%d is connected", *self._address)

    def _sockets(self) -> frozenset[str] | None:
        """Return the sockets that must take a connection: none in particular, if it is not own.

        None where own ones are wanted, and nobody or anybody else listens.
        """
        if not self._is_own:
            return frozenset()
        found = listening(self._address[1])
        is_own = {uid for _, uid in found} == {os.geteuid()}
        return frozenset(inode for inode, _ in found) if is_own else None

    def _answers(self, seen: frozenset[str]) -> bool:
        """Ask for PONG: a client that is made while nothing listens never answers a request.

        seen: the sockets that listened before; who took the connection was none other, where they
        do after it too.
        """
        words = [word for word in (self._username, self._password) if word]
        request = _command("AUTH", *words) if self._password else b""
        try:
            with socket.create_connection(self._address, TIMEOUT_S) as connection:
                if self._sockets() != seen:
                    return False
                connection.sendall(request + _command("PING"))
                with connection.makefile("rb") as lines:
                    if request and not lines.readline().startswith(b"+OK"):
                        return False
                    return lines.readline().startswith(b"+PONG")
        except OSError:
            return False


def listens_as(uid: int, port: int) -> bool:
    """Return whether an account, and no other, listens on a port here, as /proc/net/tcp says."""
    return {owner for _, owner in listening(port)} == {uid}


def listening(port: int) -> set[tuple[str, int]]:
    """Return the sockets that listen on a port here, and whose they are."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        found |= {
            (row[9], int(row[7])) for row in rows if row[3] == "0A" and int(row[1][-4:], 16) == port
        }
    return found


def _command(*words: str) -> bytes:
    encoded = [word.encode() for word in words]
    parts = [b"*%d\r\n" % len(encoded)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
    return b"".join(parts)
