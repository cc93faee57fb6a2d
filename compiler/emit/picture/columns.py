"""Give every box of a diagram its place, in whole pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from compiler.emit.picture.boxes import LINE, PAD, SMALL, TEXT, Box, Contents
from compiler.emit.picture.diagram import HOST, SERVICES, Carries, Diagram, DiagramNode
from compiler.emit.picture.text_width import text_width

MARGIN, GAP, INSET = 24, 16, 20
CAPTION = 30  # a frame's own heading
BETWEEN = 52  # between frames with an arrow in between
LANE = 8  # between lines side by side
ROW = 900  # services wrap at this width


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Where everything of a diagram lies; a frame's key is its group's, HOST or SERVICES."""

    boxes: dict[str, Box]
    frames: dict[str, Box]
    width: int
    height: int


def arrange(shown: Diagram, sizes: dict[str, Contents]) -> Positions:
    """Put clients, frontend, workers, caches and tiers in columns, services below."""
    labels = _label_widths(shown)
    top = MARGIN + 26 + LINE * len(shown.facts) + INSET
    y = top + CAPTION
    clients = _sized(shown.clients, sizes)
    host_x = MARGIN + clients.width + labels[Carries.REQUESTS] + 24
    boxes, x = {}, host_x + INSET
    for node in shown.front:
        boxes[node.key] = _sized(node, sizes).at(x, y)
        x = boxes[node.key].right + labels[Carries.REQUESTS] + 44
    stacked = _Column(shown, sizes, x, y)
    stores, edge = _stores(shown, sizes, stacked, y, labels[Carries.CACHE])
    placed = {**stacked.boxes, **stores}
    low = max(box.bottom for box in (*stacked.frames.values(), *placed.values()))
    # A low column of workers stands in the middle of what is higher than it.
    tallest = max(clients.height, *(box.height for box in boxes.values()), 0)
    shift = max(0, (tallest - (low - y)) // 2)
    low = max(low, y + tallest)
    boxes |= {key: box.at(box.x, box.y + shift) for key, box in placed.items()}
    frames = {key: box.at(box.x, box.y + shift) for key, box in stacked.frames.items()}
    middle = (min(f.y for f in frames.values()) + max(f.bottom for f in frames.values())) // 2
    for node in shown.front:
        box = boxes[node.key]
        boxes[node.key] = box.at(box.x, middle - box.height // 2)
    boxes[shown.clients.key] = clients.at(MARGIN, middle - clients.height // 2)
    frames[HOST] = Box(x=host_x, y=top, width=edge - host_x, height=low + INSET - top)
    if shown.services:
        row, frames[SERVICES] = _services(shown, sizes, host_x, frames[HOST].bottom + BETWEEN)
        boxes |= row
    everything = (*boxes.values(), *frames.values())
    return Positions(
        boxes=boxes,
        frames=frames,
        width=max(box.right for box in everything) + MARGIN,
        height=max(box.bottom for box in everything) + MARGIN,
    )


def lanes(shown: Diagram) -> dict[str, int]:
    """Return the lane in which lines to a tier turn: one for all tiers of the same users."""
    used = _by_users(shown.tiers, shown).values()
    return {node.key: lane for lane, nodes in enumerate(used) for node in nodes}


def _label_widths(shown: Diagram) -> dict[Carries, int]:
    return {
        carries: max(
            (ceil(text_width(f.label, SMALL)) for f in shown.flows if f.carries is carries),
            default=0,
        )
        for carries in Carries
    }


def _sized(node: DiagramNode, sizes: dict[str, Contents]) -> Box:
    return Box(width=sizes[node.key].width, height=sizes[node.key].height)


class _Column:
    """The groups of workers, one below the other, each worker in a row with its own cache."""

    def __init__(self, shown: Diagram, sizes: dict[str, Contents], x: int, y: int) -> None:
        self.boxes: dict[str, Box] = {}
        self.frames: dict[str, Box] = {}
        heights = _own_cache_heights(shown, sizes)
        workers = [worker for group in shown.groups for worker in group.workers]
        width = max(sizes[worker.key].width for worker in workers)
        headings = (text_width(group.heading, TEXT, bold=True) for group in shown.groups)
        width = max(width, *map(ceil, headings))
        self.right = x + width + 2 * PAD
        for group in shown.groups:
            frame_y = y
            y += CAPTION
            for worker in group.workers:
                box = Box(width=width, height=sizes[worker.key].height)
                row = max(box.height, heights.get(worker.key, 0))
                self.boxes[worker.key] = box.at(x + PAD, y + (row - box.height) // 2)
                y += row + GAP
            y += PAD - GAP
            self.frames[group.key] = Box(x=x, y=frame_y, width=self.right - x, height=y - frame_y)
            y += BETWEEN


def _stores(
    shown: Diagram, sizes: dict[str, Contents], stacked: _Column, top: int, label: int
) -> tuple[dict[str, Box], int]:
    """Put caches and tiers beside their users; return the host's right edge too.

    Tiers of other hosts stand right of that edge, below those before them: no line crosses a box.
    """
    x = stacked.right + label + 36
    found = _beside(_by_users(shown.caches, shown), sizes, stacked.boxes, x, top)
    right = max((box.right for box in found.values()), default=stacked.right)
    x = right + label + 36 + LANE * len(set(lanes(shown).values()))
    users = _by_users(shown.tiers, shown)
    tiers = _beside(users, sizes, {**stacked.boxes, **found}, x, top)
    elsewhere = {node.key for node in shown.tiers if node.elsewhere}
    local = [box.right for key, box in tiers.items() if key not in elsewhere]
    edge = max(right, *local, 0) + INSET
    for key, box in tiers.items():
        found[key] = box.at(max(x, edge + label), box.y) if key in elsewhere else box
    return found, edge


def _own_cache_heights(shown: Diagram, sizes: dict[str, Contents]) -> dict[str, int]:
    """Return what a worker's row must hold beside it: what is its alone; nothing for one worker."""
    heights: dict[str, int] = {}
    for column in (shown.tiers, shown.caches):
        for users, nodes in _by_users(column, shown).items():
            if len(users) == 1:
                below = max(heights.get(node.key, 0) for node in nodes)
                heights[users[0]] = max(
                    heights.get(users[0], 0), below, _stack_height(nodes, sizes)
                )
    workers = {worker.key for group in shown.groups for worker in group.workers}
    return heights if len(workers & heights.keys()) > 1 else {}


def _by_users(
    column: tuple[DiagramNode, ...], shown: Diagram
) -> dict[tuple[str, ...], list[DiagramNode]]:
    """Return the nodes of a column by who uses them."""
    users: dict[str, list[str]] = {node.key: [] for node in column}
    for flow in shown.flows:
        if flow.target in users:
            users[flow.target].append(flow.source)
    found: dict[tuple[str, ...], list[DiagramNode]] = {}
    for node in column:
        found.setdefault(tuple(users[node.key]), []).append(node)
    return found


def _stack_height(nodes: list[DiagramNode], sizes: dict[str, Contents]) -> int:
    return sum(sizes[node.key].height + GAP for node in nodes) - GAP


def _beside(
    used: Mapping[tuple[str, ...], list[DiagramNode]],
    sizes: dict[str, Contents],
    placed: dict[str, Box],
    x: int,
    top: int,
) -> dict[str, Box]:
    """Put nodes at the middle height of their users, none above the one before it.

    What nobody uses is put at the top.
    """
    width = max((sizes[node.key].width for nodes in used.values() for node in nodes), default=0)
    wanted = []
    for users, nodes in used.items():
        rows = [placed[key] for key in users]
        lowest = max((r.middle for r in rows), default=top)
        middle = (min((r.middle for r in rows), default=top) + lowest) // 2
        best = middle - _stack_height(nodes, sizes) // 2
        wanted += [(best, node.key, sizes[node.key].height) for node in nodes]
    return dict(_downwards(sorted(wanted, key=lambda item: item[0]), x, width, top))


def _downwards(
    wanted: Iterable[tuple[int, str, int]], x: int, width: int, y: int
) -> Iterator[tuple[str, Box]]:
    for best, key, height in wanted:
        box = Box(x=x, y=max(best, y), width=width, height=height)
        yield key, box
        y = box.bottom + GAP


def _services(
    shown: Diagram, sizes: dict[str, Contents], x: int, y: int
) -> tuple[dict[str, Box], Box]:
    """Put what must run already in rows below the host, in a frame of its own."""
    found: dict[str, Box] = {}
    at_x, at_y, right, row = x + PAD, y + CAPTION, x, 0
    for node in shown.services:
        box = _sized(node, sizes)
        if at_x > x + PAD and at_x + box.width > x + ROW:
            at_x, at_y, row = x + PAD, at_y + row + GAP, 0
        found[node.key] = box.at(at_x, at_y)
        at_x, row = at_x + box.width + GAP, max(row, box.height)
        right = max(right, found[node.key].right)
    return found, Box(x=x, y=y, width=right + PAD - x, height=at_y + row + PAD - y)
