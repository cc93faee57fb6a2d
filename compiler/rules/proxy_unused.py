"""What only the proxy does is asked for where there is one.

Accepted:
    name: one
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {api_key_file: /etc/dync/api-key, max_request_mb: 8}
    workers: [{role: aggregated, gpus: [0]}]

Reported:
    name: one
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {max_request_mb: 8}
    workers: [{role: aggregated, gpus: [0]}]

Source: this compiler's own choice of what guards the way in, docs/design/front.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.resolve.allocation import needs_proxy
from compiler.topology import Topology

RULE = Rule(
    "proxy-unused",
    Severity.WARNING,
    "a proxy stands before a deployment with a key, with TLS, or beyond loopback, and bounds "
    "requests there",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report a bound that nothing holds."""
    origin = topology.frontend.origin
    if origin.wrote("max_request_mb") and not needs_proxy(topology.frontend):
        yield RULE.at(
            origin.key("max_request_mb"),
            "max_request_mb bounds nothing: no proxy stands before this deployment",
            fix="remove it, or write api_key_file or tls",
        )
