"""Diagnostics for programs: JSON, GitHub workflow commands, SARIF 2.1.0."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from compiler import __version__
from compiler.diagnostic import Diagnostic, Label
from compiler.emit.quoting import comment

_NOT_ASCII = re.compile("[^\n -~]")
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def as_json(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> str:  # noqa: ARG001
    """Return a JSON list, one object a diagnostic."""
    return _json([_object(d) for d in diagnostics])


def as_github(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> str:  # noqa: ARG001
    """Return GitHub workflow commands, which annotate the lines of a pull request."""
    lines = []
    for d in diagnostics:
        span = d.primary.span
        fields = f"file={_property(span.file)},line={span.line},col={span.column}"
        fields += f",endLine={span.end_line},title={_property(d.rule)}"
        text = d.message + (f"\nfix: {d.fix}" if d.fix else "")
        lines.append(f"::{_COMMANDS[d.severity.value]} {fields}::{_message(text)}\n")
    return "".join(lines)


def as_sarif(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> str:  # noqa: ARG001
    """Return a SARIF log.

    Source: OASIS SARIF 2.1.0, sections 3.27 (result) and 3.49 (reportingDescriptor).
    """
    rules = {d.rule: d.why for d in diagnostics}
    run = {
        "tool": {
            "driver": {
                "name": "dync",
                "version": __version__,
                "rules": [
                    {"id": rule, "shortDescription": {"text": why}} for rule, why in rules.items()
                ],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(d) for d in diagnostics],
    }
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return _json(log)


def _object(d: Diagnostic) -> dict[str, Any]:
    return {
        "rule": d.rule,
        "severity": d.severity.value,
        **_place(d.primary),
        "message": d.message,
        "label": d.primary.text,
        "why": d.why,
        "fix": d.fix,
        "related": [{**_place(label), "message": label.text} for label in d.related],
        **({"table": d.table} if d.table else {}),
    }


def _place(label: Label) -> dict[str, Any]:
    span = label.span
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def _result(d: Diagnostic) -> dict[str, Any]:
    text = d.message + (f". Fix: {d.fix}" if d.fix else "")
    return {
        "ruleId": d.rule,
        "level": _LEVELS[d.severity.value],
        "message": {"text": text},
        "locations": [_location(d.primary)],
        "relatedLocations": [_location(label) for label in d.related],
    }


def _location(label: Label) -> dict[str, Any]:
    span = label.span
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(span.file)}, "region": region}
    }
    if label.text:
        location["message"] = {"text": label.text}
    return location


def _json(value: Any) -> str:
    """Write JSON that shows as it reads: what no terminal prints as itself is escaped."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _NOT_ASCII.sub(_seen, text) + "\n"


def _seen(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def _uri(file: str) -> str:
    """Return a file's relative URI. Source: RFC 3986, section 2.1."""
    return quote(file.encode("utf-8", "surrogateescape"), safe="/")


def _message(text: str) -> str:
    return "%0A".join(comment(line).replace("%", "%25") for line in text.split("\n"))


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
