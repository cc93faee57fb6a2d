"""Read a plain YAML scalar, refusing what YAML 1.1 and 1.2 read differently."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

# What a plain scalar means, by YAML 1.2's core schema (yaml.org/spec/1.2.2, section 10.3.2).
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")

# Plain scalars that YAML 1.1 and 1.2 read differently (yaml.org/type, and what PyYAML 6 does).
_AMBIGUOUS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|y|Y|n|N)\Z"),
        "a truth value in YAML 1.1",
    ),
    (re.compile(r"[-+]?[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9]*)?\Z"), "a number in base 60 in YAML 1.1"),
    (re.compile(r"[-+]?0[0-9]+\Z"), "an octal number in YAML 1.1 and a decimal one in YAML 1.2"),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+\Z"), "a number in one YAML version only"),
    (re.compile(r"[-+]?[0-9](?=[0-9]*_)[0-9_]*(?:\.[0-9_]*)?\Z"), "a number in YAML 1.1 only"),
    (
        re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][0-9]+\Z"),
        "text in YAML 1.1 and a number in YAML 1.2",
    ),
    (re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z"), "text in YAML 1.1 and a number in YAML 1.2"),
    (
        re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?\Z"),
        "a date in YAML 1.1",
    ),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a scalar is refused: message, reason, and the edit that fixes it."""

    message: str
    why: str
    fix: str


@lru_cache(maxsize=1024)
def read_scalar(text: str) -> bool | int | float | str | Fault | None:
    """Return an unquoted scalar's value by YAML 1.2, or a Fault.

    Source: YAML 1.2.2 section 10.3.2; yaml.org/type for YAML 1.1.
    """
    for pattern, reading in _AMBIGUOUS:
        if pattern.match(text):
            return Fault(
                f"unquoted {text} is {reading}",
                "YAML 1.1 and 1.2 read it differently, so two programs may see two values",
                _ambiguous_fix(text),
            )
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _NOT_FINITE.match(text) or (_FLOAT.match(text) and _is_too_large(text)):
        return Fault(
            f"{text if len(text) < 40 else text[:37] + '...'} is not a number dync can hold",
            "quantities are finite and below 10^18",
            "write a smaller number",
        )
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def _is_too_large(text: str) -> bool:
    value = float(text) if len(text) < 400 else math.inf
    return not math.isfinite(value) or abs(value) >= 1e18


def _ambiguous_fix(text: str) -> str:
    quoted = f'"{text}" for text'
    if re.match(r"(?i:yes|on|y|no|off|n)\Z", text):
        return f"write {'true' if text.lower() in ('yes', 'on', 'y') else 'false'}, or {quoted}"
    if re.match(r"[-+]?0(?:x[0-9a-fA-F]+|o[0-7]+|b[01]+)\Z", text) and len(text) < 18:
        return f"write {int(text, 0)}, or {quoted}"
    if re.match(r"[-+]?0[0-9]+\Z", text) or "_" in text:
        return f"write {text.replace('_', '').lstrip('0') or '0'}, or {quoted}"
    if re.match(r"[-+]?[0-9.]+[eE]", text) and not _is_too_large(text):
        number = float(text)
        return f"write {int(number) if number == int(number) else number}, or {quoted}"
    return f"write {quoted}"
