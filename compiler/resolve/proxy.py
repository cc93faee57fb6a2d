"""Build the process that guards the way in: the distribution's nginx, before whatever answers."""

from __future__ import annotations

from compiler.addresses import LOOPBACK, http_url
from compiler.bundle_paths import PROXY_SCRIPT, nginx_file
from compiler.process import (
    API_KEY,
    TLS_CERTIFICATE,
    TLS_KEY,
    Kind,
    Launch,
    Listen,
    Memory,
    Process,
    ProcessName,
    Ready,
    WithoutLmcache,
)
from compiler.resolve.redis_store import SYSTEM_ENV
from compiler.topology import Topology

PROXY = ProcessName("proxy")
HEALTH_PATH = "/health"
"""What is answered without a key: every stack's server has it."""
READY_S, CLOSE_S = 30, 10


def proxy_process(topology: Topology, behind: ProcessName, health_port: int) -> Process:
    """Return nginx before a process: how it is asked needs neither key nor TLS.

    It ends when the requests have, as the worker does, and closes what is left then.
    """
    frontend, drain_s = topology.frontend, topology.deploy.drain_s
    tls = frontend.tls
    key_file = frontend.api_key_file
    return Process(
        name=PROXY,
        kind=Kind.PROXY,
        launch=Launch(
            argv=("/bin/bash", PROXY_SCRIPT, nginx_file(PROXY)),
            env=SYSTEM_ENV,
            engine_args={"max_request_mb": frontend.max_request_mb, "drain_s": drain_s},
        ),
        without_lmcache=WithoutLmcache.SAME,
        secrets={
            **({API_KEY: key_file} if key_file else {}),
            **({TLS_CERTIFICATE: tls.certificate, TLS_KEY: tls.key} if tls else {}),
        },
        listens=(
            Listen(purpose="https" if tls else "http", host=frontend.host, port=frontend.port),
            Listen(purpose="health", host=LOOPBACK, port=health_port),
        ),
        after=(behind,),
        ready=Ready(
            url=http_url(LOOPBACK, health_port, HEALTH_PATH),
            host=LOOPBACK,
            port=health_port,
            path=HEALTH_PATH,
            timeout_s=READY_S,
        ),
        metrics="",
        memory=Memory(host_bytes=0, gpu_fraction=0.0),
        stop_s=drain_s + CLOSE_S,
    )
