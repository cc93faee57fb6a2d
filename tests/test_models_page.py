"""docs/models.md says what is computed of the known models."""

from __future__ import annotations

import subprocess
import sys

from compiler.library import known_models, load_stack, releases_with
from compiler.shipped_files import stack_names
from tests.support import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")


def test_table_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "models_page.py"), "--print"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == PAGE, "python tools/models_page.py"


def test_every_known_model_has_a_row_with_an_answer_for_each_stack() -> None:
    rows = [line.strip("|\n ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    by_name = {row[0].strip("`"): row for row in rows if len(row) == 4 + len(stack_names())}
    assert sorted(by_name) == sorted(known_models())
    for name, row in by_name.items():
        assert set(row[4:]) <= {"server", "in process", "no", "not there"}, name


def test_every_stack_was_looked_at_for_architectures() -> None:
    releases = set(releases_with("LlamaForCausalLM"))
    assert releases == {load_stack(name).versions["vllm"] for name in stack_names()}
