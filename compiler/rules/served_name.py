"""The name that clients send is the one that the engine serves.

Some engines take a comma or a space for the end of a name and serve the first piece, so that every
request for the whole name gets 404 from a healthy deployment.

Accepted:
    name: named
    stack: dynamo-1.6
    topology: agg
    model: {id: Qwen/Qwen3-0.6B, served_name: qwen3-small}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: named
    stack: dynamo-1.6
    topology: agg
    model: {id: Qwen/Qwen3-0.6B, served_name: qwen3 small}
    workers: [{role: aggregated, gpus: [0]}]

Source: ai-dynamo 1.6.1 dynamo/common/configuration/utils.py, split_served_model_names; its parser
made "it's" of a longer name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "served-name",
    Severity.ERROR,
    "the stack's workers split a name at spaces and commas, and serve the first piece",
)
_SEPARATORS = re.compile(r"[\s,]+")


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report a served name that would be cut."""
    model = topology.model
    name = model.served_name or model.id
    if not stack.splits_served_name or not _SEPARATORS.search(name):
        return
    better = _SEPARATORS.sub("-", name.rpartition("/")[2]).strip("-") or "model"
    yield RULE.at(
        model.origin.of("served_name" if model.served_name else "id"),
        f"served name {name!r} has a space or a comma",
        fix=f"write model.served_name: {better}",
    )
