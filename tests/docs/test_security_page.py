"""docs/security.md names a test for each claim: those tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[str]:
    """Return the rows of the tables that have claims."""
    found, claims = [], False
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("| Claim | Test |"):
            claims = True
        elif not line.startswith("|"):
            claims = False
        elif claims and not line.startswith("|---"):
            found.append(line)
    return found


def test_each_claim_names_a_test_that_is_there() -> None:
    assert len(rows()) > 25
    for row in rows():
        named = NAMED.findall(row)
        assert named, f"no test: {row}"
        for path, name in named:
            tree = ast.parse((PAGE.parents[1] / path).read_text("utf-8"))
            defined = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
            assert name in defined, f"{path} has no {name}"
