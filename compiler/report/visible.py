"""Keep what others wrote from steering a terminal: escapes, and marks that turn text around."""

from __future__ import annotations

import re

_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)


def visible(text: str) -> str:
    """Return a text with what steers a terminal written as JSON writes it; lines stay lines."""
    return _STEERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
