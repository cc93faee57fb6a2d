"""Draw the flows of a placed diagram as lines with right angles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from compiler.emit.picture.boxes import PAD, SMALL, Box
from compiler.emit.picture.columns import LANE, Positions, lanes
from compiler.emit.picture.diagram import CLIENTS, Carries, Diagram, Flow
from compiler.emit.picture.text_width import text_width


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One line from corner to corner; its label begins at label_x on the baseline label_y."""

    carries: Carries
    corners: tuple[tuple[int, int], ...]
    both_ways: bool
    label: str
    label_x: int
    label_y: int


def arrows(shown: Diagram, positions: Positions) -> Iterator[Arrow]:
    """Return every flow as an arrow; flows that end in one line share its label."""
    labelled: set[str] = set()
    lane = lanes(shown)
    for flow in shown.flows:
        source, target = (
            positions.boxes.get(key) or positions.frames[key] for key in (flow.source, flow.target)
        )
        if flow.carries in (Carries.TRANSFER, Carries.NOTICES):
            yield _down(flow, source, target)
            continue
        is_new = flow.target not in labelled
        labelled.add(flow.target)
        # What ends at one box turns at one place; to a tier, near its users.
        turn = target.x - ceil(text_width(flow.label, SMALL)) - 24
        if flow.target in lane:
            turn = source.right + PAD + 14 + LANE * lane[flow.target]
        yield _across(flow, source, target, turn, flow.label if is_new else "")


def _down(flow: Flow, source: Box, target: Box) -> Arrow:
    x = min(box.x + box.width // 2 for box in (source, target))
    return Arrow(
        carries=flow.carries,
        corners=((x, source.bottom), (x, target.y)),
        both_ways=flow.both_ways,
        label=flow.label,
        label_x=x + 12,
        label_y=(source.bottom + target.y) // 2 + 4,
    )


def _across(flow: Flow, source: Box, target: Box, turn: int, label: str) -> Arrow:
    begin, end = (source.right, source.middle), (target.x, target.middle)
    before_end = end[0] - ceil(text_width(flow.label, SMALL)) - 15
    corners: tuple[tuple[int, int], ...] = ((turn, begin[1]), (turn, end[1]))
    if abs(begin[1] - end[1]) <= 1:  # halves of odd heights
        begin, corners = (begin[0], end[1]), ()
    return Arrow(
        carries=flow.carries,
        corners=(begin, *corners, end),
        both_ways=flow.both_ways,
        label=label,
        label_x=source.right + 10 if flow.source == CLIENTS else before_end,
        label_y=end[1] - 7,
    )
