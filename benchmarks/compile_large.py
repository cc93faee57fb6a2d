"""Measure what thousands of workers and hostile texts cost: processor time and memory.

Each figure is of a process of its own, from its start: `time.process_time` and its largest size.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOSTILE_BYTES = 1_000_000
CHANGE = ("--set", "model.served_name=other")
"""It changes every worker's file."""
PROGRAM = """
import json, resource, sys, time
from compiler.__main__ import main
into = sys.argv.pop(1)
try:
    main()
finally:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump([time.process_time(), size], open(into, "w"))
"""
Row = tuple[str, str, str]


def cost(arguments: Sequence[str]) -> tuple[float, float]:
    """Return the processor seconds and the MB of one `dync` command."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "cost.json"
        command = [sys.executable, "-c", PROGRAM, str(into), *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True)
        seconds, size = json.loads(into.read_text())
    return seconds, size


def large_rows(sizes: Sequence[int], profile: Callable[[int, str], object]) -> Iterator[Row]:
    """Build, and compare with a changed copy, profiles of growing size, in memory."""
    for shape, words in (("groups", "groups of one worker"), ("replicas", "replicas of one group")):
        took: dict[str, list[float]] = {}
        for size in sizes:
            for name, seconds, memory in _costs(profile(size, shape)):
                took.setdefault(name, []).append(seconds)
                yield f"`{name}`, {size} {words}", f"{seconds:.1f} s", f"{memory:.0f} MB"
        for name, found in took.items():
            slope = math.log(found[-1] / found[0]) / math.log(sizes[-1] / sizes[0])
            yield f"growth of `{name}`, {words}", f"{slope:.2f}", "exponent; 1 is linear"


def _costs(content: object) -> Iterator[tuple[str, float, float]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        path, bundle = f"{name}/large.yaml", f"{name}/bundle"
        Path(path).write_text(json.dumps(content))
        yield ("dync check", *cost(["check", path]))
        yield ("dync build", *cost(["build", path, "-o", bundle]))
        yield ("dync diff", *cost(["diff", path, path, *CHANGE]))
        yield ("dync diff with a bundle", *cost(["diff", path, bundle, *CHANGE]))
        shutil.rmtree(bundle)


def hostile_rows(texts: dict[str, str]) -> Iterator[Row]:
    """Check each hostile text."""
    with tempfile.TemporaryDirectory() as name:
        for kind, text in texts.items():
            path = Path(name) / "profile.yaml"
            path.write_text(text, "utf-8")
            seconds, memory = cost(["check", str(path)])
            yield kind, f"{seconds:.2f} s", f"{memory:.0f} MB"
