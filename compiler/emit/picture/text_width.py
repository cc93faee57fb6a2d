"""Estimate how wide text is drawn, without a font at hand."""

from __future__ import annotations

from collections.abc import Iterator

# Advances in 1/1000 em of DejaVu Sans 2.37, the widest of the fonts that the picture names: in any
# other the text is narrower.
_ADVANCES = {
    275: "'",
    295: "IJijl",
    318: " ,.·",
    361: "-/:;\\|",
    412: "f()[]tr!",
    500: '"*_`',
    531: "sz?",
    592: "cLFkvxy",
    617: "PTYoae",
    637: "EhnuSbdgpq$0123456789{}",
    687: "KAVXZB",
    699: "RC",
    788: "UNHDG&OQ",
    863: "w#+<=>^~M→",
}
_OTHERWISE = 1000


class _Advance(dict[str, int]):
    """The advance of every character; what a picture of thousands of boxes asks most."""

    def __missing__(self, char: str) -> int:
        return _OTHERWISE


_advance = _Advance({char: width for width, chars in _ADVANCES.items() for char in chars})
BOLD = 1.16


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return an upper estimate of a line's width, in the unit of size."""
    units = sum(map(_advance.__getitem__, text))
    return units / 1000 * size * (BOLD if bold else 1)


def shortened(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Cut a line's middle out where it is wider than width: both ends tell most."""
    if text_width(text, size, bold=bold) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and text_width(_cut(text, kept), size, bold=bold) > width:
        kept -= 1
    return _cut(text, kept)


def packed(items: tuple[str, ...], gap: str, width: float, size: float) -> Iterator[str]:
    """Put items on as few lines of at most this width as hold them in their order."""
    line = ""
    for item in items:
        longer = f"{line}{gap}{item}" if line else item
        if line and text_width(longer, size) > width:
            yield line
            line = item
        else:
            line = longer
    if line:
        yield line


def _cut(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return f"{text[:head]}…{text[len(text) - (kept - head) :]}"
