"""A console for tables and live displays, in which words of others stay words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole

from compiler.report.visible import visible

if TYPE_CHECKING:
    from rich.segment import Segment


class Console(RichConsole):
    """A console whose texts steer nothing; its own colours and cursor do."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Give the pieces of what is printed; rich calls this for all of it."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else piece._replace(text=visible(piece.text))
