"""Report formats for programs: JSON, GitHub commands, SARIF; and the order of findings."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from compiler.diagnostic import Diagnostic, Label, Severity, Span
from compiler.report.diagnostics import FORMATS, in_order, written
from tests.support import AGG, DISAGG, compile_text

PLACE = ["file", "line", "column", "end_line", "end_column"]
TEXTS = (
    DISAGG.replace("[1]", "[0]") + "lmcache: {chunk_size: 256, mode: multiprocess}\n",
    AGG + "lmcache: {chunk_size: 200}\nfrontend: {host: 0.0.0.0}\n",
    AGG.replace("vllm-0.32", "vllm-0.25") + "lmcache: {mode: in_process}\n",
)
FOUND = [found for text in TEXTS for found in compile_text(text).diagnostics]
# What of SARIF 2.1.0 dync writes (OASIS sarif-schema-2.1.0.json), with nothing besides.
_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
_LOCATION = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "message": _TEXT,
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation", "region"],
            "properties": {
                "artifactLocation": {
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string"}},
                },
                "region": {
                    "required": ["startLine", "startColumn", "endLine", "endColumn"],
                    "additionalProperties": {"type": "integer", "minimum": 1},
                },
            },
        },
    },
    "additionalProperties": False,
}
SARIF = {
    "type": "object",
    "required": ["$schema", "version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "required": ["tool", "results"],
                "properties": {
                    "tool": {"properties": {"driver": {"required": ["name", "rules"]}}},
                    "columnKind": {"enum": ["unicodeCodePoints", "utf16CodeUnits"]},
                    "results": {
                        "type": "array",
                        "items": {
                            "required": ["ruleId", "level", "message", "locations"],
                            "properties": {
                                "ruleId": {"type": "string"},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": _TEXT,
                                "locations": {"items": _LOCATION, "minItems": 1, "maxItems": 1},
                                "relatedLocations": {"items": _LOCATION},
                            },
                            "additionalProperties": False,
                        },
                    },
                },
            },
        },
    },
}


def made(message: str, *, line: int = 1, severity: Severity = Severity.ERROR) -> Diagnostic:
    span = Span("a,b:c.yaml", line, 1, line, 2)
    return Diagnostic(
        rule="r", severity=severity, message=message, primary=Label(span=span), why="w", fix="f"
    )


def test_json_fields() -> None:
    read = json.loads(FORMATS["json"](FOUND, {}))
    assert len(read) == len(FOUND) >= 3
    assert any(item["related"] for item in read)
    for item, found in zip(read, FOUND, strict=True):
        fields = {"rule", "severity", *PLACE, "message", "label", "why", "fix", "related"}
        assert set(item) == fields
        assert item["rule"] == found.rule
        assert item["severity"] in ("error", "warning", "info")
        assert [item[name] for name in PLACE] == [
            getattr(found.primary.span, name) for name in PLACE
        ]
        assert all(set(label) == {*PLACE, "message"} for label in item["related"])


def test_github_commands_are_escaped() -> None:
    text = FORMATS["github"]([made("50% of\nit", severity=Severity.INFO)], {})
    assert text == (
        "::notice file=a%2Cb%3Ac.yaml,line=1,col=1,endLine=1,title=r::50%25 of%0Ait%0Afix: f\n"
    )
    lines = FORMATS["github"](FOUND, {}).splitlines()
    assert len(lines) == len(FOUND)
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines)


def test_sarif() -> None:
    log = json.loads(FORMATS["sarif"](FOUND, {}))
    Draft202012Validator(SARIF).validate(log)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert sorted(set(rules)) == sorted(rules) == sorted({found.rule for found in FOUND})
    assert [result["ruleId"] for result in run["results"]] == [found.rule for found in FOUND]


def test_nothing_found() -> None:
    assert json.loads(FORMATS["json"]([], {})) == []
    assert json.loads(FORMATS["sarif"]([], {}))["runs"][0]["results"] == []
    assert FORMATS["text"]([], {}) == FORMATS["github"]([], {}) == ""


def test_order_is_by_place_then_weight_and_each_finding_stands_once() -> None:
    warning, error = made("b", severity=Severity.WARNING), made("c")
    later = made("a", line=2)
    assert in_order([later, warning, error, error]) == [error, warning, later]


def test_text_survives_any_line() -> None:
    long = "x" * 500
    found = made("m\x1b[31m")
    for source in (long, "", "\t\x1b[2J", "é" * 10):
        text = FORMATS["text"]([found], {"a,b:c.yaml": source})
        assert "\x1b" not in text
        assert all(len(line) < 200 for line in text.splitlines())


@pytest.mark.parametrize("password", ["hunter2", "hu@ter2", "hun/er2"])
@pytest.mark.parametrize("style", FORMATS)
def test_a_password_in_an_address_is_not_repeated(style: str, password: str) -> None:
    text = (
        AGG + f'lmcache: {{tiers: [{{redis: {{url: "redis://me:{password}@10.0.0.5:6379"}}}}]}}\n'
    )
    compiled = compile_text(text)
    shown = written(compiled.diagnostics, compiled.sources, style)
    assert password not in shown
    assert "er2@" not in shown
    assert "redis://me:*******@10.0.0.5:6379" in shown
