"""Write the picture of a plan as Mermaid text, which Git hosts draw inside a page."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.emit.artifact import header
from compiler.emit.picture.boxes import gpu_name
from compiler.emit.picture.diagram import (
    HOST,
    SERVICES,
    Carries,
    Diagram,
    DiagramNode,
    Flow,
    diagram,
)
from compiler.plan import Plan

# Mermaid reads `#35;` as the character of that number, and quotes end a label.
_ESCAPED = {ord(char): f"#{ord(char)};" for char in '"#&<>`\\'}
_STYLES = {
    "frontend": "fill:#eef1f5,stroke:#616e7c,color:#1f2933",
    "prefill": "fill:#e6f1fc,stroke:#2f6fb0,color:#1f2933",
    "decode": "fill:#fdf0e1,stroke:#b7651b,color:#1f2933",
    "aggregated": "fill:#edeafd,stroke:#5b4bb5,color:#1f2933",
    "cache": "fill:#e5f5ea,stroke:#2b8049,color:#1f2933",
    "tier": "fill:#e0f4f4,stroke:#23787a,color:#1f2933",
}


def mermaid(plan: Plan) -> str:
    """Return a flowchart of everything that topology.svg shows."""
    return "\n".join(_lines(diagram(plan), header(plan))) + "\n"


def _lines(shown: Diagram, made: tuple[str, ...]) -> Iterator[str]:
    ids = _ids(shown)
    yield from (f"%% {line.replace('%{', '% {')}" for line in made)  # %%{ begins a directive
    yield "flowchart LR"
    yield from _node(shown.clients, ids, "  ")
    yield f'  subgraph {HOST}["this host"]'
    for node in shown.front:
        yield from _node(node, ids, "    ")
    for group in shown.groups:
        yield f'    subgraph {ids[group.key]}["{_text(group.heading)}"]'
        for worker in group.workers:
            yield from _node(worker, ids, "      ")
        yield "    end"
    for node in (*shown.caches, *(tier for tier in shown.tiers if not tier.elsewhere)):
        yield from _node(node, ids, "    ")
    yield "  end"
    for node in (tier for tier in shown.tiers if tier.elsewhere):
        yield from _node(node, ids, "  ")
    if shown.services:
        yield f'  subgraph {SERVICES}["must run already"]'
        for node in shown.services:
            yield from _node(node, ids, "    ")
        yield "  end"
    yield from (_flow(flow, ids) for flow in shown.flows)
    yield from (f"  classDef {name} {style}" for name, style in _STYLES.items())


def _ids(shown: Diagram) -> dict[str, str]:
    """Return an identifier by key: a Mermaid id has no spaces, and `end` is a word of its own."""
    tiers = {node.key: f"tier-{number}" for number, node in enumerate(shown.tiers)}
    groups = {group.key: group.key for group in shown.groups}
    names = {node.key: f"p-{node.key}" for group in shown.groups for node in group.workers}
    names |= {node.key: f"p-{node.key}" for node in (*shown.front, *shown.caches)}
    others = {node.key: node.key for node in (shown.clients, *shown.services)}
    return {HOST: HOST, SERVICES: SERVICES, **groups, **names, **others, **tiers}


def _node(node: DiagramNode, ids: dict[str, str], indent: str) -> Iterator[str]:
    facts = (*node.facts, " · ".join(node.ports), ", ".join(map(gpu_name, node.gpus)))
    text = "<br>".join((f"<b>{_text(node.heading)}</b>", *(_text(fact) for fact in facts if fact)))
    style = f":::{node.part.value}" if node.part.value in _STYLES else ""
    yield f'{indent}{ids[node.key]}["{text}"]{style}'


def _flow(flow: Flow, ids: dict[str, str]) -> str:
    line = {Carries.TRANSFER: "==>", Carries.NOTICES: "-.->"}.get(flow.carries, "-->")
    both = "<" if flow.both_ways else ""
    return f'  {ids[flow.source]} {both}{line}|"{_text(flow.label)}"| {ids[flow.target]}'


def _text(text: str) -> str:
    return text.translate(_ESCAPED)
