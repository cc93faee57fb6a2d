"""Quote values for the languages of a bundle: POSIX shell, YAML, systemd, nginx, XML."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import lru_cache

from compiler.document import Json

# Words that YAML 1.1 reads as null or a truth value are no plain keys.
_PLAIN_KEY = re.compile(r"(?!(?i:null|true|false|yes|no|on|off|y|n)\Z)[A-Za-z_][A-Za-z0-9_.-]*\Z")
_encode = json.JSONEncoder(ensure_ascii=False).encode
# It leaves these raw; a YAML reader refuses them or folds them as line breaks.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_UNIT_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+\Z")
_UNIT_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]|[^\x00-\x7f]')
# systemd refuses quotes and backslashes in a program's path, and expands $ in argv[0] only.
_UNIT_PROGRAM = re.compile(r"/[A-Za-z0-9_@+=:,./ -]*\Z")
_NGINX_PLAIN = re.compile(r"[A-Za-z0-9_.:/\[\]-]+\Z")
_NGINX_ESCAPED = re.compile(r'["\\\n\t\r]')
_NGINX_ESCAPES = {"\n": "n", "\t": "t", "\r": "r"}
# What XML 1.0 cannot carry at all (section 2.2, Char).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Workers are much alike: most of their words are quoted thousands of times.
_remembered = lru_cache(maxsize=20_000)
# What begins markup within a line: emphasis, code, links, HTML, cells, escapes, entities.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|&~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_C_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@_remembered
def shell_word(text: str) -> str:
    """Quote one word for bash; also a comma, which reads like a mistake between array words."""
    quoted = shlex.quote(text)
    return f"'{text}'" if "," in text and quoted == text else quoted


def comment(text: str) -> str:
    """Make text safe to stand on one comment line of any artifact."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _code(c) for c in yaml_scalar(text)[1:-1])


def _code(char: str) -> str:
    """Write a character as YAML's number of it: those that are not seen also turn or hide text."""
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def yaml_scalar(value: Json) -> str:
    """Write a scalar as YAML that YAML 1.1 and 1.2 read alike; text is always double-quoted."""
    if isinstance(value, str):
        return _yaml_text(value)
    text = _encode(value)
    if isinstance(value, float) and "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@_remembered
def _yaml_text(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", _encode(text))


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


@_remembered
def unit_word(text: str) -> str:
    """Quote one word of ExecStart=: C escapes, and neither specifiers nor variables expand.

    Source: systemd 252, systemd.service(5), COMMAND LINES; src/shared/extract-word.c.
    """
    return text if _UNIT_PLAIN.match(text) else f'"{_c_escaped(text).replace("$", "$$")}"'


@_remembered
def unit_assignment(name: str, value: str) -> str:
    """Quote one entry of Environment=, in which specifiers expand and variables do not."""
    return f'"{name}={_c_escaped(value)}"'


def unit_path(text: str) -> str:
    """Write a path where a unit takes the rest of the line: only specifiers expand."""
    return text.replace("%", "%%")


def environment_line(name: str, value: str) -> str:
    """Write one line of an EnvironmentFile=: in double quotes only these four are escaped.

    Source: systemd 252, src/basic/env-file.c, SHELL_NEED_ESCAPE; no specifier expands there.
    """
    escaped = "".join(f"\\{char}" if char in '"\\`$' else char for char in value)
    return f'{name}="{escaped}"'


def unit_carries(text: str) -> bool:
    """Return whether a unit can hold the text: systemd takes U+FFFE and its like for broken UTF-8.

    Source: systemd 252, src/basic/utf8.c, unichar_is_valid; D-Bus refuses the same.
    """
    return text.isascii() or not any(
        0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in text
    )


def unit_runs(program: str) -> bool:
    """Return whether systemd starts a program of this path as it stands."""
    return _UNIT_PROGRAM.match(program) is not None


def nginx_word(text: str) -> str:
    """Quote one word of nginx.conf where no variable expands: nothing escapes a $.

    Source: nginx 1.22.1 src/core/ngx_conf_file.c, ngx_conf_read_token.
    """
    if _NGINX_PLAIN.match(text):
        return text
    return f'"{_NGINX_ESCAPED.sub(_backslashed, text)}"'


def _backslashed(found: re.Match[str]) -> str:
    return "\\" + _NGINX_ESCAPES.get(found[0], found[0])


def xml_text(text: str) -> str:
    """Write text for an XML element; what XML cannot carry becomes U+FFFD."""
    clean = _NOT_XML.sub("\ufffd", text).replace("\r", "\ufffd")
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown(text: str) -> str:
    """Make text safe to stand on a line of Markdown or in a cell of its table, read as it is.

    Source: CommonMark 0.31, 2.4: ASCII punctuation after a backslash is itself; 4.6: HTML.
    """
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", comment(text))


def html_comment(text: str) -> str:
    """Make text safe to stand in a comment of HTML, which ends at the first `-->`."""
    return text.replace(">", "&gt;")


def printf_escapes(text: str) -> str:
    """Write any text in ASCII as bash's `printf %b` reads it back."""
    return "".join(_printf_escape(char) for char in text)


def _printf_escape(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if " " <= char <= "~":
        return char
    return "".join(f"\\0{byte:03o}" for byte in char.encode())


def _c_escaped(text: str) -> str:
    return _UNIT_ESCAPED.sub(lambda found: _c_escape(found[0]), text).replace("%", "%%")


def _c_escape(char: str) -> str:
    if char in _C_ESCAPES:
        return _C_ESCAPES[char]
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
