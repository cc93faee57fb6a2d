"""Read JSON that anybody may have written: no name twice, no number without end, no lone half."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

MOST_BYTES = 80_000_000
"""More than any plan or manifest: the plan of 10,000 workers has 51 MB."""
_MOST_DIGITS = 4000
_DEEPEST = 100


class NotStrict(ValueError):
    """Text that is no JSON of ours; it says why."""


def read_json(content: bytes) -> Any:
    """Read JSON as UTF-8 text.

    Errors: NotStrict.
    """
    if len(content) > MOST_BYTES:
        raise NotStrict(f"larger than {MOST_BYTES} bytes")
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_pairs,
            parse_int=_whole,
            parse_float=_number,
            parse_constant=_no_number,
        )
    except UnicodeDecodeError as error:
        raise NotStrict(f"no UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise NotStrict(f"no JSON: {error.msg} ({at})") from None
    except RecursionError:
        raise NotStrict(f"nested deeper than {_DEEPEST} levels") from None


def refuse_odd_values(value: Any) -> None:
    """Refuse text that is no Unicode, or holds NUL, and what is nested too deep to be handled.

    Errors: NotStrict.
    """
    todo: list[tuple[Any, int]] = [([value], -1)]
    while todo:
        item, depth = todo.pop()
        if depth > _DEEPEST:
            raise NotStrict(f"nested deeper than {_DEEPEST} levels")
        for parts in (item.keys(), item.values()) if isinstance(item, dict) else (item,):
            for part in parts:
                if isinstance(part, str):
                    _refuse_odd_text(part)
                elif isinstance(part, (dict, list)):
                    todo.append((part, depth + 1))


def _refuse_odd_text(text: str) -> None:
    if "\0" in text:
        raise NotStrict("a text with a NUL character")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise NotStrict("a text with half a character (a lone surrogate)")


def shown(value: Any) -> str:
    """Return a value as an error may print it: JSON in ASCII, cut where it is long."""
    text = json.dumps(value, ensure_ascii=True, default=repr)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise NotStrict(f"the key {shown(twice)} is there twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise NotStrict(f"a number of {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise NotStrict(f"{shown(digits)} is no number")
    return found


def _no_number(word: str) -> float:
    raise NotStrict(f"{word} is no number")
