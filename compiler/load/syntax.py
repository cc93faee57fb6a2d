"""What is not YAML, or not the part of it that a profile is written in, in words of dync's own."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from compiler.diagnostic import Diagnostic, Label, Rule, Severity, Span

# Words of libyaml's messages, and what to do about them.
_FIXES = (
    ("could not find expected ':'", "write KEY: VALUE, with a space after the colon"),
    ("mapping values are not allowed", 'indent it like its neighbours; quote text that holds ": "'),
    ("quoted scalar", "close the quote"),
    ("flow sequence", "close the list with ]"),
    ("flow mapping", "close the mapping with }"),
    ("block mapping", "indent it like its neighbours"),
)


def syntax_rule(what: str) -> Rule:
    """Return the rule of YAML's syntax for a kind of file, as a person calls it."""
    why = f"a {what} is one YAML document of mappings, lists and plain values"
    return Rule("yaml-syntax", Severity.ERROR, why)


def refused(rule: Rule, error: yaml.MarkedYAMLError, lines: Sequence[str], name: str) -> Diagnostic:
    """Report what PyYAML's parser refused in the source of these lines."""
    mark = error.problem_mark or error.context_mark
    if "could not find expected ':'" in str(error.problem):
        mark = error.context_mark or mark  # where the line without a colon begins
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if line > len(lines):  # the parser ends every text with a line break
        line, column = len(lines), len(lines[-1]) + 1
    problem = " ".join(str(error.problem or error).split())
    context = f" ({' '.join(str(error.context).split())})" if error.context else ""
    fix = next(
        (fix for words, fix in _FIXES if words in f"{problem}{context}"),
        "check indentation, quotes and colons",
    )
    if lines[line - 1][column - 1 : column] == "\t":
        fix = "indent with spaces: YAML allows no tab there"
    begin = error.context_mark if error.context_mark is not mark else None
    related: tuple[Label, ...] = ()
    if begin is not None and (begin.line + 1, begin.column + 1) < (line, column):
        begun = _character(name, begin.line + 1, begin.column + 1)
        related = (Label(span=begun, text="begins here"),)
    return rule.at(
        _character(name, line, column),
        f"not valid YAML: {problem}{context}",
        fix=fix,
        related=related,
    )


def not_allowed(rule: Rule, character: str, before: Sequence[str], name: str) -> Diagnostic:
    """Report a character that YAML does not allow, by the lines up to it."""
    code = ord(character)
    is_byte = 0xDC80 <= code <= 0xDCFF  # how Python's surrogateescape keeps a wrong byte
    return rule.at(
        _character(name, len(before), len(before[-1]) + 1),
        f"byte 0x{code - 0xDC00:02X} is not UTF-8 text"
        if is_byte
        else f"character U+{code:04X} is not allowed in YAML",
        fix="save the file as UTF-8" if is_byte else "remove it",
    )


def _character(name: str, line: int, column: int) -> Span:
    return Span(name, line, column, line, column + 1)
