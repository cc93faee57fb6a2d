"""Write docs/rules.md: every rule, and which known failure it refuses.

python tools/rules_page.py > docs/rules.md
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.cli.main import dync  # noqa: E402 -- the checkout, wherever this is run from
from compiler.library import library  # noqa: E402
from compiler.load.yaml_tree import parse_data  # noqa: E402
from compiler.rules.explain import pages  # noqa: E402
from compiler.rules.reading_pages import READING_PAGES  # noqa: E402
from compiler.rules.tables import (  # noqa: E402
    FOUND_RULES,
    MODEL_RULES,
    PLAN_RULES,
    STACK_RULES,
    TOPOLOGY_RULES,
)
from compiler.stacks.stack import KnownIssue  # noqa: E402

HEADER = """\
# Rules

What `dync check` says before anything starts, and which known failures that covers. Generated from
the rules, the stacks and `docs/failures.yaml`; a test checks it against them. To make it again:

    python tools/rules_page.py > docs/rules.md

`dync explain RULE` shows a rule's page, with an accepted and a rejected profile. The severity is
the highest that a rule has: some of what it says may be a warning. `# dync: ignore[RULE] reason`
leaves out a warning or info of its line.
"""
VERDICTS = (
    ("rules", "refused or reported by a rule"),
    ("made_right", "no profile can ask for it: dync writes what is right"),
    ("later", "only the host or the running deployment shows it"),
    ("open", "not checked yet, or not all of it"),
)


def failures() -> list[dict[str, Any]]:
    """Read the groups of known failures."""
    found: list[dict[str, Any]] = parse_data((ROOT / "docs" / "failures.yaml").read_text("utf-8"))
    return found


def rule_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Return each rule's id, severity, stage, claim and source."""
    listed = pages(library().stacks())
    for stage, table in (
        ("profile", TOPOLOGY_RULES),
        ("stack", STACK_RULES),
        ("model", (*MODEL_RULES, *FOUND_RULES)),
        ("plan", PLAN_RULES),
    ):
        for module in table:
            rule, page = module.RULE, listed[module.RULE.id]
            yield rule.id, rule.severity.value, stage, page.splitlines()[0], _source(page)
    for name in READING_PAGES:
        page = listed[name]
        yield name, "error", "reading", page.splitlines()[0], _source(page)
    yield from _case_rows()


def _case_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Return one row for each stack case, with the words of every stack that has it."""
    told: dict[str, list[tuple[str, KnownIssue]]] = {}
    for stack in library().stack_names:
        for case in library().load_stack(stack).cases:
            told.setdefault(case.id, []).append((stack, case))
    for name, cases in told.items():
        stacks = ", ".join(stack for stack, _ in cases)
        severities, messages, sources = (
            "; ".join(dict.fromkeys(" ".join(text.split()) for text in texts))
            for texts in zip(
                *((case.severity, case.message, case.source) for _, case in cases), strict=True
            )
        )
        yield name, severities, f"case of {stacks}", messages, sources


def _source(page: str) -> str:
    """Return the Source paragraph of a page as one line."""
    found = re.search(r"^Source: (.+?)(?:\n\n|\Z)", page, re.MULTILINE | re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""


def _cell(text: str) -> str:
    return text.strip().rstrip(".").replace("|", "\\|")


def _rules_table() -> Iterator[str]:
    yield "## Every rule"
    yield ""
    yield "| Rule | Severity | Decided by | Protects | Source |"
    yield "|---|---|---|---|---|"
    for row in sorted(rule_rows()):
        yield "| " + " | ".join((f"`{row[0]}`", *map(_cell, row[1:]))) + " |"


def _answer(item: dict[str, Any]) -> str:
    parts = []
    if "rules" in item:
        parts.append(", ".join(f"`{rule}`" for rule in item["rules"]))
    if "made_right" in item:
        parts.append(f"cannot be asked for: {item['made_right']}")
    if "later" in item:
        note = " (`dync doctor` is not built yet)" if _waits(item) else ""
        parts.append(f"later, {item['later']}{note}")
    if "open" in item:
        parts.append(f"**not yet**: {item['open']}")
    return "; ".join(parts)


def _waits(item: dict[str, Any]) -> bool:
    """Return whether a failure is left to a command that dync does not have yet."""
    return item.get("later", "").startswith("doctor:") and "doctor" not in dync.commands


def _failures_tables(groups: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Known failures"
    yield ""
    items = [item for group in groups for item in group["items"]]
    counts = Counter(key for item in items for key, _ in VERDICTS if key in item)
    whole = sum("open" not in item and not _waits(item) for item in items)
    yield (
        f"{len(items)} known failures that a profile can bring about or prevent; {whole} of them "
        "are answered in full. An item may have several answers."
    )
    yield ""
    yield "| Answer | Items |"
    yield "|---|---|"
    for key, meaning in VERDICTS:
        yield f"| {meaning} | {counts[key]} |"
    for group in groups:
        yield ""
        yield f"### {group['protects']}"
        yield ""
        yield "| | What fails | Who says so |"
        yield "|---|---|---|"
        for item in group["items"]:
            yield f"| {item['id']} | {_cell(item['fails'])} | {_cell(_answer(item))} |"


def page() -> str:
    """Write the whole page."""
    lines = (*_rules_table(), "", *_failures_tables(failures()))
    return HEADER + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
