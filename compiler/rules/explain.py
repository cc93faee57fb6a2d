"""The pages of `dync explain`: what each rule protects, by its id."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable

from compiler.rules.reading_pages import READING_PAGES
from compiler.rules.stack_case import in_words
from compiler.rules.tables import FOUND_RULES, MODEL_RULES, PLAN_RULES, STACK_RULES, TOPOLOGY_RULES
from compiler.stacks.stack import KnownIssue, Stack


def pages(stacks: Iterable[Stack]) -> dict[str, str]:
    """Return the text of every rule id: rule modules, stack cases, and the rules of reading."""
    found = dict(READING_PAGES)
    for module in (*TOPOLOGY_RULES, *STACK_RULES, *MODEL_RULES, *FOUND_RULES, *PLAN_RULES):
        found[module.RULE.id] = inspect.cleandoc(module.__doc__ or "") + "\n"
    for name, texts in _case_texts(stacks).items():
        found[name] = "\n".join(_case_page(text, names) for text, names in texts.items())
    return found


def _case_texts(stacks: Iterable[Stack]) -> dict[str, dict[str, list[str]]]:
    """Return each case's text, and the stacks that tell it in these words."""
    found: dict[str, dict[str, list[str]]] = {}
    for stack in stacks:
        for case in stack.cases:
            found.setdefault(case.id, {}).setdefault(_case_text(case), []).append(stack.name)
    return found


def _case_text(case: KnownIssue) -> str:
    parts = (
        f"Why ({case.severity}): {case.why}.",
        f"Fix: {case.fix}.",
        f"Source: {case.source}.",
        f"Proof: {case.proof}.",
    )
    return "\n\n".join((in_words(case.message, {}), *(textwrap.fill(part, 100) for part in parts)))


def _case_page(text: str, stacks: list[str]) -> str:
    return f"{text}\n\nStacks: {', '.join(stacks)}\n"
