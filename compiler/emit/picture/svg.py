"""Emit topology.svg: the plan as a picture, for a README, a dark page or a printer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from compiler.emit.artifact import Artifact, header
from compiler.emit.picture.arrows import Arrow, arrows
from compiler.emit.picture.boxes import (
    HEADING,
    LINE,
    PAD,
    SMALL,
    TEXT,
    Box,
    Contents,
    Line,
    contents,
    gpu_name,
)
from compiler.emit.picture.columns import MARGIN, arrange
from compiler.emit.picture.diagram import HOST, SERVICES, Carries, Diagram, DiagramNode, diagram
from compiler.emit.picture.text_width import shortened, text_width
from compiler.emit.quoting import xml_text
from compiler.emit.render import Renderer
from compiler.plan import Plan

PATH = "topology.svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextView:
    """One line of text, escaped."""

    x: int
    y: int
    style: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipView:
    """A GPU, with the place of its text."""

    box: Box
    text: TextView


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxView:
    """A node's box; whole is all that it says, uncut, for a reader that points at it."""

    style: str
    box: Box
    whole: str
    lines: tuple[TextView, ...]
    chips: tuple[ChipView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameView:
    """A frame around boxes, with its heading."""

    style: str
    box: Box
    heading: TextView


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowView:
    """A line with its heads and its label."""

    style: str
    points: str
    both_ways: bool
    label: TextView


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """The fields of topology.svg.j2."""

    width: int
    height: int
    name: str
    made: str
    lines: tuple[TextView, ...]
    heads: tuple[str, ...]
    frames: tuple[FrameView, ...]
    arrows: tuple[ArrowView, ...]
    boxes: tuple[BoxView, ...]


def emit_picture(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit the picture of a plan."""
    yield Artifact(path=PATH, text=picture(plan, renderer))


def picture(plan: Plan, renderer: Renderer) -> str:
    """Draw a plan as SVG: valid XML, the same plan, the same bytes."""
    return renderer.render("topology.svg.j2", _picture(diagram(plan), " ".join(header(plan))))


def _picture(shown: Diagram, made: str) -> PictureView:
    nodes = _nodes(shown)
    sizes = {node.key: contents(node) for node in nodes}
    positions = arrange(shown, sizes)
    headings = {HOST: "this host", SERVICES: "must run already"}
    headings |= {group.key: group.heading for group in shown.groups}
    styles = {HOST: "host", SERVICES: "outside"}
    return PictureView(
        width=positions.width,
        height=positions.height,
        name=xml_text(shown.heading),
        made=xml_text(made),
        lines=tuple(_page_heading(shown, positions.width)),
        heads=tuple(carries.value for carries in Carries),
        frames=tuple(
            FrameView(
                style=styles.get(key, "group"), box=box, heading=_frame_heading(headings[key], box)
            )
            for key, box in sorted(positions.frames.items(), key=lambda item: item[0] != HOST)
        ),
        arrows=tuple(map(_arrow, arrows(shown, positions))),
        boxes=tuple(_box(node, positions.boxes[node.key], sizes[node.key]) for node in nodes),
    )


def _nodes(shown: Diagram) -> tuple[DiagramNode, ...]:
    workers = (worker for group in shown.groups for worker in group.workers)
    return (shown.clients, *shown.front, *workers, *shown.caches, *shown.tiers, *shown.services)


def _page_heading(shown: Diagram, width: int) -> Iterator[TextView]:
    room = width - 2 * MARGIN
    name = shortened(shown.heading, room, HEADING + 4, bold=True)
    yield TextView(x=MARGIN, y=MARGIN + 16, style="name", text=xml_text(name))
    for number, fact in enumerate(shown.facts, 1):
        text = xml_text(shortened(fact, room, TEXT))
        yield TextView(x=MARGIN, y=MARGIN + 20 + LINE * number, style="fact", text=text)


def _frame_heading(heading: str, box: Box) -> TextView:
    return TextView(x=box.x + PAD, y=box.y + 20, style="caption", text=heading)


def _box(node: DiagramNode, box: Box, inside: Contents) -> BoxView:
    whole = (node.heading, *node.facts, *node.ports, *map(gpu_name, node.gpus))
    return BoxView(
        style=node.part.value,
        box=box,
        whole=xml_text("\n".join(whole)),
        lines=tuple(_line(line, box) for line in inside.lines),
        chips=tuple(_chip(chip, text, box) for chip, text in inside.chips),
    )


def _line(line: Line, box: Box) -> TextView:
    style = "heading" if line.bold else "fact"
    return TextView(x=box.x + line.x, y=box.y + line.y, style=style, text=xml_text(line.text))


def _chip(chip: Box, text: str, box: Box) -> ChipView:
    placed = chip.at(box.x + chip.x, box.y + chip.y)
    left = (chip.width - ceil(text_width(text, SMALL))) // 2
    return ChipView(
        box=placed,
        text=TextView(x=placed.x + left, y=placed.y + 13, style="gpu", text=xml_text(text)),
    )


def _arrow(arrow: Arrow) -> ArrowView:
    label = TextView(
        x=arrow.label_x, y=arrow.label_y, style=f"label {arrow.carries.value}", text=arrow.label
    )
    return ArrowView(
        style=arrow.carries.value,
        points=" ".join(f"{x},{y}" for x, y in arrow.corners),
        both_ways=arrow.both_ways,
        label=label,
    )
