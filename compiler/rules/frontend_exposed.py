"""A port beyond loopback is protected, or said to be.

Every server of the stacks serves whoever connects, unless something asks for a key before it.

Accepted:
    name: open
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {host: 0.0.0.0, api_key_file: /etc/dync/api-key}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: open
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {host: 0.0.0.0}
    workers: [{role: aggregated, gpus: [0]}]

Source: vLLM 0.32.0 vllm/entrypoints/openai/cli_args.py, api_key: none by default; vllm-router
0.1.17 and Dynamo's frontends ask for none before prefill and decode workers (docs/design/front.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.addresses import is_loopback
from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.topology import Topology

RULE = Rule(
    "frontend-exposed",
    Severity.ERROR,
    "a server serves whoever can connect, unless a key is asked for",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report a frontend that anyone on the network can use."""
    frontend = topology.frontend
    if is_loopback(frontend.host) or frontend.api_key_file or frontend.allow_unauthenticated:
        return
    yield RULE.at(
        frontend.origin.of("host"),
        f"frontend listens on {frontend.host} without an API key",
        fix="add api_key_file: /path/to/key, or allow_unauthenticated: true where something else "
        "guards the port",
    )
