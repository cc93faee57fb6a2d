"""docs/rules.md is what the rules say today, and its map of failures names real rules."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from compiler.library import library
from compiler.load.yaml_tree import parse_data
from compiler.rules.explain import pages
from tests.support import ROOT

ANSWERS = {"rules", "made_right", "later", "open"}


def items() -> list[dict[str, Any]]:
    groups = parse_data((ROOT / "docs" / "failures.yaml").read_text("utf-8"))
    return [item for group in groups for item in group["items"]]


def test_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "rules_page.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    made_by = "python tools/rules_page.py > docs/rules.md"
    assert done.stdout == (ROOT / "docs" / "rules.md").read_text("utf-8"), made_by


def test_page_lists_every_rule_once() -> None:
    text = (ROOT / "docs" / "rules.md").read_text("utf-8")
    for name in pages(library().stacks()):
        assert text.count(f"\n| `{name}` |") == 1, name


def test_every_failure_has_an_answer() -> None:
    """Each is said once, in order within its group, and each rule named exists."""
    found = items()
    assert len({item["id"] for item in found}) == len(found) > 60
    known = set(pages(library().stacks()))
    for item in found:
        keys = set(item) - {"id", "fails"}
        assert keys, item["id"]
        assert keys <= ANSWERS, item["id"]
        assert "made_right" not in keys or keys == {"made_right"}, item["id"]
        assert set(item.get("rules", ())) <= known, item["id"]
