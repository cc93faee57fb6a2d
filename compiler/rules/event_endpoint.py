"""A worker publishes what its cache holds where only its own host can read it, alone.

kv_events_config has vLLM tell the tokens of every prompt to whoever connects: at a TCP port it
listens on every interface, and asks for no key. A file that several workers bind belongs to the
last of them, and nothing says so.

Accepted:
    name: events
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args:
          kv_events_config: {enable_kv_cache_events: true, endpoint: "ipc:///srv/events/0"}

Rejected:
    name: events
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {kv_events_config: {enable_kv_cache_events: true}}

Source: vLLM 0.25.1 and 0.32.0 config/kv_events.py, endpoint, "tcp://*:5557" by default;
distributed/kv_events.py, ZmqEventPublisher and BlockStored.token_ids; libzmq removes the file of an
ipc endpoint before it binds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compiler.addresses import is_loopback
from compiler.diagnostic import Diagnostic, Label, Rule, Severity, Span
from compiler.resolve.kv_events import OPTION, bound_endpoints
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule("event-endpoint", Severity.ERROR)
_HOST = re.compile(r"\*|[0-9A-Za-z:][0-9A-Za-z.:-]*")


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report endpoints that the network reads, and files that several workers bind."""
    if OPTION in stack.owned_engine_args:
        return  # engine-args says so
    is_guarded = topology.frontend.allow_unauthenticated
    files: dict[str, Span] = {}
    for group in topology.workers:
        for key, endpoint in bound_endpoints(group).items():
            span = group.origin.of("engine_args", OPTION, key)
            if endpoint.startswith("ipc://"):
                if group.replicas > 1 or endpoint in files:
                    others = (files[endpoint],) if endpoint in files else ()
                    yield RULE.at(
                        span,
                        f"{endpoint} is bound by several workers",
                        fix="write a group of one worker for each, with an endpoint of its own",
                        related=tuple(Label(span=other, text="and here") for other in others),
                        why="the last worker that binds a file takes it from the others in silence",
                    )
                files[endpoint] = span
            elif not _HOST.fullmatch(_host(endpoint)):
                yield RULE.at(
                    span,
                    f"{endpoint} names no address to listen on",
                    fix=f"write {key}: ipc:// and a file's absolute path, or tcp://127.0.0.1:PORT",
                    why="an endpoint is tcp://ADDRESS:PORT, where * is every address",
                )
            elif not is_guarded and not is_loopback(_host(endpoint)):
                yield RULE.at(
                    span,
                    f"{endpoint} tells the tokens of every prompt to whoever connects",
                    fix=f"write {key}: ipc:// and a file's absolute path, or "
                    "frontend.allow_unauthenticated: true where something else guards the port",
                    why="the publisher asks for no key",
                )


def _host(endpoint: str) -> str:
    return endpoint.partition("://")[2].rpartition(":")[0].strip("[]")
