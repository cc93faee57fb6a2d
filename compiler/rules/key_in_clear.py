"""A key goes over a network inside of TLS.

The client sends it with every request, and whoever can read one has it.

Accepted:
    name: open
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend:
      host: 0.0.0.0
      api_key_file: /etc/dync/api-key
      tls: {certificate: /etc/dync/cert.pem, key: /etc/dync/tls-key.pem}
    workers: [{role: aggregated, gpus: [0]}]

Reported:
    name: open
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {host: 0.0.0.0, api_key_file: /etc/dync/api-key}
    workers: [{role: aggregated, gpus: [0]}]

Source: RFC 6750, 5.3: bearer tokens are sent over TLS alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.addresses import is_loopback
from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.topology import Topology

RULE = Rule(
    "key-in-clear",
    Severity.WARNING,
    "without TLS the key stands readable in every request that crosses the network",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report a key that clients of other hosts send in the clear."""
    frontend = topology.frontend
    if is_loopback(frontend.host) or not frontend.api_key_file or frontend.tls:
        return
    yield RULE.at(
        frontend.origin.of("api_key_file"),
        f"clients send the key to {frontend.host} in the clear",
        fix="add tls: {certificate: /path/cert.pem, key: /path/key.pem}, or keep host on loopback "
        "behind something that ends TLS",
    )
