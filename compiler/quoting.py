"""Quote values for the languages of a bundle: POSIX shell and YAML."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping

from compiler.document import Json

# Words that YAML 1.1 reads as null or a truth value are no plain keys.
_PLAIN_KEY = re.compile(r"(?!(?i:null|true|false|yes|no|on|off|y|n)\Z)[A-Za-z_][A-Za-z0-9_.-]*\Z")
_encode = json.JSONEncoder(ensure_ascii=False).encode
# It leaves these raw; a YAML reader refuses them or folds them as line breaks.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def shell_word(text: str) -> str:
    """Quote one word for bash; also a comma, which reads like a mistake between array words."""
    quoted = shlex.quote(text)
    return f"'{text}'" if "," in text and quoted == text else quoted


def comment(text: str) -> str:
    """Make text safe to stand on one comment line of any artifact."""
    return text if text.isprintable() else yaml_scalar(text)[1:-1]


def yaml_scalar(value: Json) -> str:
    """Write a scalar as YAML that YAML 1.1 and 1.2 read alike; text is always double-quoted."""
    text = _encode(value)
    if isinstance(value, float) and "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def yaml_lines(mapping: Mapping[str, Json], indent: int = 0) -> Iterator[str]:
    """Write a mapping as block YAML, lists of scalars in flow form."""
    pad = " " * indent
    for key, value in mapping.items():
        name = key if _PLAIN_KEY.match(key) else yaml_scalar(key)
        if isinstance(value, dict) and value:
            yield f"{pad}{name}:"
            yield from yaml_lines(value, indent + 2)
        elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
            yield f"{pad}{name}:"
            yield from _items(value, indent + 2)
        elif isinstance(value, list):
            yield f"{pad}{name}: [{', '.join(yaml_scalar(item) for item in value)}]"
        elif isinstance(value, dict):
            yield f"{pad}{name}: {{}}"
        else:
            yield f"{pad}{name}: {yaml_scalar(value)}"


def _items(items: list[Json], indent: int) -> Iterator[str]:
    pad = " " * indent
    for item in items:
        if isinstance(item, dict) and item:
            lines = list(yaml_lines(item, indent + 2))
            yield f"{pad}- {lines[0].lstrip(' ')}"
            yield from lines[1:]
        else:
            yield f"{pad}- {_flow(item)}"


def _flow(value: Json) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{yaml_scalar(key)}: {_flow(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    return yaml_scalar(value)
