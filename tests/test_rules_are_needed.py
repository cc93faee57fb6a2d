"""Every rule of the tables is needed: without it, some case of tests/errors says something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from compiler.cli.main import dync
from compiler.diagnostic import Diagnostic
from compiler.rules.tables import FOUND_RULES, MODEL_RULES, PLAN_RULES, STACK_RULES, TOPOLOGY_RULES
from tests.test_errors import CASES, FOLDER, arguments

RULES = (*TOPOLOGY_RULES, *STACK_RULES, *MODEL_RULES, *FOUND_RULES, *PLAN_RULES)


def silent(*_: object) -> Iterator[Diagnostic]:
    yield from ()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.RULE.id))
def test_without_the_rule_a_case_changes(rule: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [case for case in CASES if case.parent == FOLDER / rule.RULE.id]
    monkeypatch.setattr(rule, "check", silent)
    assert any(output(case, monkeypatch) != case.with_suffix(".txt").read_text() for case in own)


def output(case: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(case.parent)
    return CliRunner().invoke(dync, ["check", *arguments(case)]).output
