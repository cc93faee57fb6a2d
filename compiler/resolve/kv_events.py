"""Where a worker publishes what its cache holds, where engine_args ask for it.

Source: vLLM 0.25.1 and 0.32.0 config/kv_events.py, KVEventsConfig, and distributed/kv_events.py,
ZmqEventPublisher: a wildcard, ipc and each replay_endpoint are bound, any other is connected to.
"""

from __future__ import annotations

from compiler.process import Listen
from compiler.topology import WorkerGroup

OPTION = "kv_events_config"
_DEFAULT = "tcp://*:5557"
_BOUND = ("*", "::", "ipc://")


def bound_endpoints(group: WorkerGroup) -> dict[str, str]:
    """Return by key the endpoints that each worker of a group binds."""
    given = group.engine_args.get(OPTION)
    if not isinstance(given, dict) or given.get("enable_kv_cache_events") is not True:
        return {}
    if given.get("publisher") == "null":
        return {}
    endpoint, replay = given.get("endpoint", _DEFAULT), given.get("replay_endpoint")
    found = {"endpoint": str(endpoint)} if any(it in str(endpoint) for it in _BOUND) else {}
    return {**found, **({"replay_endpoint": str(replay)} if replay else {})}


def event_listens(group: WorkerGroup) -> list[Listen]:
    """Return the TCP ports among them; 0, which the system chooses, is none."""
    listens = []
    for key, endpoint in bound_endpoints(group).items():
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        if endpoint.startswith("tcp://") and port.isascii() and port.isdigit() and int(port):
            purpose = "kv_events" if key == "endpoint" else "kv_events_replay"
            host = "0.0.0.0" if host == "*" else host.strip("[]")
            listens.append(Listen(purpose=purpose, host=host, port=int(port)))
    return listens
