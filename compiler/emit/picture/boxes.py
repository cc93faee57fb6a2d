"""Lay out what stands in one box of a picture, in whole pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from compiler.emit.picture.diagram import DiagramNode
from compiler.emit.picture.text_width import packed, shortened, text_width

HEADING, TEXT, SMALL = 14, 12, 11
PAD, LINE, CHIP = 12, 18, 18
MAX_TEXT = 264


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of text, from where its baseline begins."""

    x: int
    y: int
    text: str
    size: int = TEXT
    bold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle; x and y are its upper left corner."""

    x: int = 0
    y: int = 0
    width: int
    height: int

    @property
    def right(self) -> int:
        """Return the right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """Return the lower edge."""
        return self.y + self.height

    @property
    def middle(self) -> int:
        """Return the height of the middle."""
        return self.y + self.height // 2

    def at(self, x: int, y: int) -> Box:
        """Return the same box elsewhere."""
        return replace(self, x=x, y=y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What stands in a node's box, measured: lines and chips from its upper left corner."""

    lines: tuple[Line, ...]
    chips: tuple[tuple[Box, str], ...]
    width: int
    height: int


def contents(node: DiagramNode) -> Contents:
    """Lay out a node's own text and chips; no line is wider than MAX_TEXT."""
    lines: list[Line] = []
    chips: list[tuple[Box, str]] = []
    heading = shortened(node.heading, MAX_TEXT, HEADING, bold=True)
    lines.append(Line(x=PAD, y=PAD + 12, text=heading, size=HEADING, bold=True))
    y = PAD + LINE
    for text in (*node.facts, *packed(node.ports, " · ", MAX_TEXT, TEXT)):
        lines.append(Line(x=PAD, y=y + 14, text=shortened(text, MAX_TEXT, TEXT)))
        y += LINE
    for row in _chip_rows(node.gpus):
        x = PAD
        for text, width in row:
            chips.append((Box(x=x, y=y + 5, width=width, height=CHIP), text))
            x += width + 6
        y += CHIP + 6
    widths = [ceil(text_width(line.text, line.size, bold=line.bold)) for line in lines]
    widths += [box.right - PAD for box, _ in chips]
    return Contents(
        lines=tuple(lines), chips=tuple(chips), width=max(widths) + 2 * PAD, height=y + PAD - 2
    )


def _chip_rows(gpus: Sequence[str]) -> Iterator[list[tuple[str, int]]]:
    row: list[tuple[str, int]] = []
    for gpu in gpus:
        text = shortened(gpu_name(gpu), MAX_TEXT - 16, SMALL)
        width = ceil(text_width(text, SMALL)) + 16
        if row and sum(taken + 6 for _, taken in row) + width > MAX_TEXT:
            yield row
            row = []
        row.append((text, width))
    if row:
        yield row


def gpu_name(gpu: str) -> str:
    """Name a GPU: its number, or the UUID that says itself what it is."""
    return f"GPU {gpu}" if gpu.isdigit() else gpu
