"""Choose how the processes of a deployment find each other, where a stack lets them."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.document import Json
from compiler.plan import Service
from compiler.stacks.placeholders import fill, text_of
from compiler.stacks.stack import Stack
from compiler.topology import Topology


def ways(topology: Topology, stack: Stack) -> dict[str, str]:
    """Return the way taken for each role of a stack's discovery: the profile's or the default."""
    asked = {"backend": topology.discovery.backend, "events": topology.discovery.events}
    return {role: asked[role] or next(iter(known)) for role, known in stack.discovery.items()}


def discovery_values(topology: Topology) -> dict[str, Json]:
    """Return the words that a stack's discovery is filled with."""
    return {
        "etcd_endpoints": ",".join(topology.discovery.etcd_endpoints),
        "nats_server": topology.discovery.nats_server,
    }


def discovery_skeleton(topology: Topology, stack: Stack) -> dict[str, Json]:
    """Return the environment that every worker and the frontend have in common, unfilled."""
    env: dict[str, Json] = {}
    for role, way in ways(topology, stack).items():
        env.update(stack.discovery[role][way])
    return env


def discovery_env(topology: Topology, stack: Stack, values: Mapping[str, Json]) -> dict[str, str]:
    """Return it filled."""
    skeleton = discovery_skeleton(topology, stack)
    return {name: text_of(fill(value, values)) for name, value in skeleton.items()}


def services(topology: Topology, stack: Stack) -> tuple[Service, ...]:
    """List what the deployment needs that it does not start itself."""
    urls = {
        "etcd": topology.discovery.etcd_endpoints,
        "nats": (topology.discovery.nats_server,),
    }
    return tuple(
        Service(purpose=way, url=url)
        for way in dict.fromkeys(ways(topology, stack).values())
        for url in urls.get(way, ())
    )


def registrations(topology: Topology, stack: Stack) -> str:
    """Return the folder of registrations that peers delete; empty where the way has none."""
    found = (stack.registrations.get(way, "") for way in ways(topology, stack).values())
    return next(filter(None, found), "")
