"""What the tests of data files share."""

from __future__ import annotations

from compiler.load.yaml_tree import load
from compiler.shipped_files import profile_schema, stack_names, tier_names
from compiler.topology import Topology
from compiler.validate.topology_of import validate
from tests.support import AGG

SHIPPED = [
    *(f"stacks/{name}.yaml" for name in stack_names()),
    *(f"tiers/{name}.yaml" for name in tier_names()),
    "engine_relations.yaml",
]


def topology_of(more: str, workers: str = "") -> Topology:
    """Return the topology of a small profile with more lines, and with more keys of its worker."""
    text = AGG.replace("gpus: [0]", f"gpus: [0]{workers}") + more
    document = load(text, "profile.yaml").value
    assert document is not None
    topology = validate(document, profile_schema()).value
    assert topology is not None
    return topology
