"""Text that was written to keep dync busy is answered in time that grows as its size does.

Figures are in benchmarks/compile.md. Here a text's time is held against that of one an eighth as
long, both without what a start takes: a busy machine slows both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.diagnostic import MOST_SHOWN
from compiler.load.yaml_tree import MAX_ENTRIES, load
from tests.hostile.texts import texts
from tests.support import AGG, ROOT

SIZE, TIMES = 40_000, 8
MOST_GROWTH = 20
"""Of the time where a text is 8 times as long: linear is 8, quadratic 64."""
LEAST_S = 0.3
"""What is shorter than this is taken for it: a busy machine adds as much to a text that is long."""
SMALL, LARGE = texts(SIZE), texts(SIZE * TIMES)
PROGRAM = """
import sys, time
from compiler.__main__ import main
text, style, took = sys.argv[1:]
sys.argv[1:] = ["check", text, "--format", style]
try:
    main()
finally:
    print(time.process_time(), file=open(took, "w"))
"""


def cpu_seconds(path: Path, style: str) -> tuple[float, bytes]:
    """Return the processor time of a check in a process of its own, and what it printed."""
    took = path.with_suffix(".time")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), style, str(took)],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    return float(took.read_text()), done.stdout + done.stderr


@pytest.fixture(scope="module")
def start_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    path = tmp_path_factory.mktemp("start") / "p.yaml"
    path.write_text(AGG, "utf-8")
    return min(cpu_seconds(path, "text")[0] for _ in range(3))


@pytest.mark.parametrize("name", SMALL)
def test_time_grows_as_the_text_does(name: str, tmp_path: Path, start_s: float) -> None:
    took = []
    for text in (SMALL[name], LARGE[name]):
        path = tmp_path / "p.yaml"
        path.write_text(text, "utf-8")
        seconds, said = cpu_seconds(path, "text")
        assert len(said) < 200_000
        took.append(max(LEAST_S, seconds - start_s))
    assert took[1] < MOST_GROWTH * took[0]


@pytest.mark.parametrize("kind", ["list", "mapping"])
def test_a_collection_holds_as_many_entries_as_there_can_be_workers(kind: str) -> None:
    def found(count: int) -> str:
        lines = (f"  k{at}: 1\n" if kind == "mapping" else "  - 1\n" for at in range(count))
        outcome = load(f"a: 1\nx:\n{''.join(lines)}", "p.yaml")
        return "".join(f"{d.primary.span.line}: {d.message}" for d in outcome.diagnostics)

    assert found(MAX_ENTRIES) == ""
    message = f"the profile has a {kind} of more than 10000 entries"
    assert found(MAX_ENTRIES + 5) == f"{MAX_ENTRIES + 3}: {message}"


def test_text_shows_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    comments = "".join("# dync: ignore[lmcache-disk] x\n" for _ in range(100))
    path.write_text(f"{AGG}{comments}deploy: {{}} # dync: ignore[y] z\n", "utf-8")
    _, text = cpu_seconds(path, "text")
    assert text.count(b"= rule:") == MOST_SHOWN
    assert text.count(b": error: ") == 1
    assert text.endswith(b"\nand 51 more (51 warnings): --format json shows all of them\n")
    _, text = cpu_seconds(path, "json")
    assert len(json.loads(text)) == 101
