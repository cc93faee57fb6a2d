"""Measure how long checking and building take, beside what they save.

Every figure is taken in one run on one machine, the two sides of a ratio in turn. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.compile_large import HOSTILE_BYTES, hostile_rows, large_rows
from tests.hostile.texts import texts

ROOT = Path(__file__).resolve().parents[1]
BASE = "import yaml, jsonschema, jinja2, click"
VLLM = """
try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
make_arg_parser(FlexibleArgumentParser()).parse_args(["--max-num-seqs", "64"])
"""

Row = tuple[str, str, str]


def timed(command: Sequence[str], cwd: Path) -> float:
    """Return the wall time of a command in seconds."""
    began = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def check_rows(rounds: int, python: str) -> Iterator[Row]:
    """Check `dync check` against importing what it stands on, and doing nothing with it."""
    check = [python, "-m", "compiler", "check", "profiles/disagg.yaml"]
    base = [python, "-c", BASE]
    for command in (check, base):
        timed(command, ROOT)
    pairs = [(timed(check, ROOT), timed(base, ROOT)) for _ in range(rounds)]
    check_s, base_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    yield f'`python -c "{BASE}"`', f"{base_s:.2f} s", f"median of {rounds}"
    yield "`dync check profiles/disagg.yaml`", f"{check_s:.2f} s", f"**{ratio:.2f}** × the imports"


def profile(workers: int, shape: str) -> dict[str, object]:
    """Return a profile of so many workers: a group each, or one group of replicas."""
    given: list[dict[str, object]] = [{"role": "aggregated", "engine_args": {"max_num_seqs": 64}}]
    given = given * workers if shape == "groups" else [{**given[0], "replicas": workers}]
    return {
        "name": "large",
        "stack": "vllm-0.32",
        "topology": "agg",
        "accelerator": "cpu",
        "model": {"id": "Qwen/Qwen3-0.6B"},
        "lmcache": {"chunk_size": 128},
        "workers": given,
    }


def build_rows(sizes: Sequence[int], rounds: int, python: str) -> Iterator[Row]:
    """Build profiles of growing size; the exponent is the slope between the two largest.

    Each is built on the disk and in memory, in turn, and beside them as many empty files are made
    on the disk: what of the largest is dync's own work, and what the file system's.
    """
    for shape, words in (("groups", "groups of one worker"), ("replicas", "replicas of one group")):
        took: dict[int, float] = {}
        for size in sizes:
            took[size], in_memory, empty, count = built(profile(size, shape), rounds, python)
            yield f"`dync build`, {size} {words}", f"{took[size]:.2f} s", f"median of {rounds}"
        yield "the same in /dev/shm", f"{in_memory:.2f} s", f"{count} files"
        yield "as many empty files on the disk", f"{empty:.2f} s", ""
        for small, large in itertools.pairwise(sizes[-2:]):
            slope = math.log(took[large] / took[small]) / math.log(large / small)
            yield f"growth from {small} to {large} {words}", f"{slope:.2f}", "exponent; 1 is linear"


def built(content: dict[str, object], rounds: int, python: str) -> tuple[float, float, float, int]:
    """Return a build's seconds on the disk and in memory, those of empty files, and how many."""
    disk, memory, empty = [], [], []
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir="/dev/shm") as inside,
    ):
        path = Path(name) / "large.yaml"
        path.write_text(json.dumps(content))
        command = [python, "-m", "compiler", "build", str(path), "-o"]
        for number in range(rounds):
            disk.append(timed([*command, f"{name}/out{number}"], ROOT))
            memory.append(timed([*command, f"{inside}/out{number}"], ROOT))
            count = sum(len(files) for _, _, files in os.walk(f"{inside}/out{number}"))
            shutil.rmtree(f"{inside}/out{number}")
            began = time.perf_counter()
            (Path(name) / f"empty{number}").mkdir()
            for file in range(count):
                (Path(name) / f"empty{number}" / str(file)).touch()
            empty.append(time.perf_counter() - began)
    seconds = statistics.median
    return seconds(disk), seconds(memory), seconds(empty), count


def vllm_rows(stack_python: str) -> Iterator[Row]:
    """Ask the engine's own parser about one option, which imports the engine."""
    _, took = (timed([stack_python, "-c", VLLM], Path("/")) for _ in range(2))
    yield "vLLM's own parser, for one option", f"{took:.1f} s", "the second of two"


RULES = """
import json, sys, time
from compiler.cli import profiles as cli_profiles
from compiler.rules import tables as rules

took = {}
def timed(module):
    check = module.check
    def inner(*given):
        began = time.perf_counter()
        found = list(check(*given))
        took[module.RULE.id] = took.get(module.RULE.id, 0.0) + time.perf_counter() - began
        return found
    module.check = inner
for table in ("TOPOLOGY_RULES", "STACK_RULES", "MODEL_RULES", "FOUND_RULES", "PLAN_RULES"):
    for module in getattr(rules, table):
        timed(module)
began = time.perf_counter()
cli_profiles.compile_named(sys.argv[1], ())
took["all"] = time.perf_counter() - began
print(json.dumps(took))
"""


def rule_rows(size: int, rounds: int, python: str) -> Iterator[Row]:
    """Share the time of compiling one small and one large profile out among the rules.

    Shares, not seconds: they hold on a busy machine too. A rule pays for what it reads first, such
    as the engine's catalogue.
    """
    with tempfile.TemporaryDirectory() as name:
        large = Path(name) / "large.yaml"
        large.write_text(json.dumps(profile(size, "groups")))
        paths = (ROOT / "profiles" / "disagg.yaml", large)
        shares = [_rule_shares(str(path), rounds, python) for path in paths]
    for rule in sorted(shares[0], key=lambda rule: -shares[1].get(rule, 0.0)):
        cells = [f"{share.get(rule, 0.0):.1%}" for share in shares]
        yield f"`{rule}`", cells[0], cells[1]
    small, big = (f"**{sum(share.values()):.1%}**" for share in shares)
    yield "all rules", small, big


def _rule_shares(path: str, rounds: int, python: str) -> dict[str, float]:
    """Return each rule's part of the time between a profile's text and its plan, as a median."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        command = [python, "-c", RULES, path]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        took = json.loads(done.stdout)
        whole = took.pop("all")
        for rule, seconds in took.items():
            found.setdefault(rule, []).append(seconds / whole)
    return {rule: statistics.median(parts) for rule, parts in found.items()}


def print_table(head: Row, rows: Sequence[Row]) -> None:
    """Print rows as Markdown."""
    print(f"| {' | '.join(head)} |\n|---|---:|---:|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def times(options: argparse.Namespace) -> None:
    """Print what a check and builds take, beside what they save."""
    rows = [*check_rows(options.rounds, sys.executable)]
    rows += build_rows(options.sizes, max(1, options.rounds // 5), sys.executable)
    if options.stack_python:
        rows += vllm_rows(options.stack_python)
    what = "an engine that starts and fails on what `dync check` reports"
    rows.append((what, "35 s", "recorded, see compile.md"))
    print_table(("What", "Time", ""), rows)


def rules(options: argparse.Namespace) -> None:
    """Print what each rule takes."""
    size = options.sizes[-1]
    rows = list(rule_rows(size, max(1, options.rounds // 3), sys.executable))
    print_table(("Rule", "`profiles/disagg.yaml`", f"{size} groups of one worker"), rows)


def large(options: argparse.Namespace) -> None:
    """Print what thousands of workers take."""
    head = ("What", "Processor time", "Memory")
    print_table(head, list(large_rows(options.large, profile)))


def hostile(_options: argparse.Namespace) -> None:
    """Print what each kind of hostile text takes."""
    head = (f"`dync check`, {HOSTILE_BYTES / 1e6:.0f} MB of", "Processor time", "Memory")
    print_table(head, list(hostile_rows(texts(HOSTILE_BYTES))))


TABLES = {"times": times, "rules": rules, "large": large, "hostile": hostile}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="of check; builds take a fifth")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000], metavar="N")
    parser.add_argument("--large", type=int, nargs="+", default=[2500, 5000, 10000], metavar="N")
    parser.add_argument("--stack-python", help="the python of an installed stack, to ask vLLM too")
    parser.add_argument("--only", choices=TABLES, help="one table instead of all")
    options = parser.parse_args()
    for name in [options.only] if options.only else TABLES:
        load = os.getloadavg()[0]
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, ")
        print(f"load {load:.1f} at the start\n")
        TABLES[name](options)
        print()


if __name__ == "__main__":
    main()
