"""Build the process of a storage server that the deployment starts itself."""

from __future__ import annotations

from compiler.addresses import LOOPBACK
from compiler.bundle_paths import REDIS_SCRIPT
from compiler.byte_units import GIB
from compiler.process import Kind, Launch, Listen, Memory, Process, Protocol, Ready, WithoutLmcache
from compiler.resolve.allocation import StoreSlot

PASSWORD = "REDIS_PASSWORD"
READY_S, STOP_S = 30, 15
SYSTEM_ENV = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
"""The environment of a program that the distribution has."""


def store_process(slot: StoreSlot) -> Process:
    """Return the distribution's redis-server: loopback, bounded memory, nothing on disk.

    Source: redis.conf of Redis 7.0: maxmemory, maxmemory-policy, save, appendonly.
    """
    size, file = slot.tier.options["size_gb"], slot.tier.options["password_file"]
    memory = int(size * GIB) if isinstance(size, (int, float)) else 0
    key_file = str(file) if file else ""
    options = {
        "bind": LOOPBACK,
        "port": str(slot.port),
        "maxmemory": str(memory),
        "maxmemory-policy": "allkeys-lru",
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
    }
    words = (word for name, value in options.items() for word in (f"--{name}", value))
    return Process(
        name=slot.name,
        kind=Kind.STORE,
        launch=Launch(argv=("/bin/bash", REDIS_SCRIPT, *words), env=SYSTEM_ENV),
        without_lmcache=WithoutLmcache.NOT_STARTED,
        secrets={PASSWORD: key_file} if key_file else {},
        listens=(Listen(purpose="redis", host=LOOPBACK, port=slot.port),),
        ready=Ready(
            url=f"redis://{LOOPBACK}:{slot.port}",
            host=LOOPBACK,
            port=slot.port,
            path="",
            key_file=key_file,
            protocol=Protocol.REDIS,
            timeout_s=READY_S,
        ),
        metrics="",
        memory=Memory(host_bytes=memory, gpu_fraction=0.0),
        stop_s=STOP_S,
    )
