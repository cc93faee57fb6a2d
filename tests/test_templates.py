"""Templates place finished strings and decide nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import nodes

from compiler.emit.render import environment
from tests.support import ROOT

TEMPLATES = sorted((ROOT / "templates").rglob("*.j2"))
# Text, a field, a loop over a sequence, a test of a boolean, an include: nothing else.
ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr),
    *(nodes.For, nodes.If, nodes.Include, nodes.Const),
)


def logic(text: str) -> list[str]:
    tree = environment({}).parse(text)
    return [
        f"line {node.lineno}: {type(node).__name__}"
        for node in tree.find_all(nodes.Node)
        if not isinstance(node, ALLOWED)
    ]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_logic(path: Path) -> None:
    assert logic(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "{{ a | upper }}",
            "{{ f() }}",
            "{% if a == 1 %}{% endif %}",
            "{{ a[0] }}",
            "{{ a + 1 }}",
        ),
        *("{% set a = 1 %}", "{% macro m() %}{% endmacro %}", "{{ a ~ b }}", "{{ -a }}"),
        *(
            "{% if not a %}{% endif %}",
            "{{ a if b }}",
            "{{ [a] }}",
            "{% if a is none %}{% endif %}",
        ),
    ],
)
def test_logic_is_found(text: str) -> None:
    assert logic(text)


def test_a_gap_is_an_error() -> None:
    from dataclasses import dataclass

    from jinja2 import UndefinedError

    from compiler.emit.render import Renderer

    @dataclass
    class View:
        known: str

    renderer = Renderer({"t": "{{ known }}{{ unknown }}"})
    with pytest.raises(UndefinedError):
        renderer.render("t", View("x"))
