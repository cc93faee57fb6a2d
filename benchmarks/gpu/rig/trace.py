"""Where the time of a warm prompt goes: spans of every process on one clock, and GPU activities.

Bundles are launched with rig/spans on their PYTHONPATH. Each prompt is asked cold, then warm, one
at a time; what was written down between sending it and its first token is told by parts. Then some
are asked once more while torch records: in the engines by vLLM's own /start_profile, and in the
cache server, which makes the copies. All that was found is in OUT/trace.jsonl;
`python -m benchmarks.gpu.rig.trace_table OUT/trace.jsonl` makes a table of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig.activities import summary
from benchmarks.gpu.rig.beat_load import ON_CPU, Book, Sizes, deployment, left_s
from benchmarks.gpu.rig.bundle import Launched, launched, workers
from benchmarks.gpu.rig.kit import KIT, Kit
from benchmarks.gpu.rig.load import Served, one
from benchmarks.gpu.rig.parts import Span, Window, parts, phases
from benchmarks.gpu.rig.prompts import text

NAMES = ("trace-agg", "trace-disagg")
SPANS = KIT / "benchmarks/gpu/rig/spans"
WRITTEN_S = 0.6
"""After an answer: until all processes have written down what they did."""
PROFILED = 2
"""Prompts of each length asked while torch records."""
RECORDED_WITHIN_S = 90


@dataclass(frozen=True, slots=True)
class Traced:
    """A launched bundle and the folder of its spans."""

    bundle: Launched
    spans: Path
    cpu: bool

    @property
    def served(self) -> Served:
        """Return what load.py asks."""
        return deployment(self.bundle).served

    def read(self) -> list[Span]:
        """Return what its processes wrote down, in the order of their begin."""
        found = []
        for path in self.spans.glob("*.jsonl"):
            process = path.name.split(".")[0]
            for line in path.read_text("utf-8").splitlines():
                with suppress(ValueError):  # a line half written
                    found.append(Span(process, *json.loads(line)))
        return sorted(found, key=lambda span: span.began)


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Measure the copies' limits, launch the bundles, and ask one prompt at a time."""
    book = Book(logs.parents[1] / "trace.jsonl", logs.name, threading.Lock())
    if kit.on_gpu:
        for row in _limits(kit):
            book.note("limit", row.pop("what"), **row)
    names = os.environ["TRACE"].split() if "TRACE" in os.environ else NAMES
    spans = {name: logs / "spans" / name for name in names}
    for name, folder in spans.items():
        instrument(KIT / "bundles" / name, folder)
    within_s = 300 if kit.on_gpu else 900
    with launched(names, logs, within_s) as bundles:
        found = [Traced(bundle, spans[bundle.name], not kit.on_gpu) for bundle in bundles]
        for each in found:
            book.note("ready", each.bundle.name, ready_s=round(each.bundle.ready_s or 0, 1))
        sizes = Sizes() if kit.on_gpu else ON_CPU
        for each in found:  # kernels are tuned and compiled at their first use
            for length in sizes.lengths:
                for seed in ("warm-up", "warm-up", "warm-up again"):
                    one(each.served, text(length, f"{seed}-{each.bundle.name}"))
        _each(found, sizes, book, _timed)
        _each(found, sizes, book, _recorded)
        return {each.bundle.name: {"ready_s": each.bundle.ready_s} for each in found}


def _each(
    found: Sequence[Traced], sizes: Sizes, book: Book, act: Callable[[Traced, int, Book], None]
) -> None:
    """Do it with each and each length; what fails is told, and the others go on."""
    for length in sizes.lengths:
        for each in found:
            if left_s() < 0:
                return
            try:
                act(each, length, book)
            except (OSError, RuntimeError, ValueError) as error:
                book.note("failed", each.bundle.name, length=length, error=repr(error))


def instrument(bundle: Path, folder: Path) -> None:
    """Have a built bundle's processes load rig/spans, the cache server with torch's profiler."""
    folder.mkdir(parents=True, exist_ok=True)
    for script in (bundle / "bin").glob("*.sh"):
        said = script.read_text("utf-8")
        lines = [line for line in said.splitlines(keepends=True) if " RIG_" not in line]
        said = "".join(line for line in lines if f"PYTHONPATH={SPANS}" not in line)
        mine = [f"PYTHONPATH={SPANS}", f"RIG_SPANS={folder}", f"RIG_NAME={script.stem}"]
        mine += ["RIG_PROFILE=1"] if script.stem.startswith("lmcache") else []
        block = "".join(f"    {setting}\n" for setting in mine)
        script.write_text(said.replace("environment=(\n", f"environment=(\n{block}", 1), "utf-8")


def _limits(kit: Kit) -> Iterator[dict[str, Any]]:
    words = [kit.python, "-m", "benchmarks.gpu.rig.copies"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=KIT)
    print(done.stderr[-1500:], flush=True)
    for line in done.stdout.splitlines():
        yield json.loads(line)


def _timed(each: Traced, length: int, book: Book) -> None:
    """Ask cold, warm and warm again, and tell the parts of each answer."""
    repeats = 3 if not each.cpu else 1
    prompts = [text(length, f"traced-{length}-{number}") for number in range(repeats)]
    for kind in ("cold", "warm", "warm again"):
        for prompt in prompts:
            window = _asked(each, prompt)
            spans = each.read()
            book.note(
                "parts",
                each.bundle.name,
                length=length,
                kind=kind,
                first_token_ms=round((window.ended - window.began) / 1e6, 2),
                parts=parts(spans, window, each.bundle.plan["topology"]),
                phases=phases(spans, window),
            )


def _asked(each: Traced, prompt: str) -> Window:
    """Ask, and return from when to when the first token was awaited, in ns since 1970."""
    began = time.time_ns()
    answer = one(each.served, prompt)
    time.sleep(WRITTEN_S)
    return Window(began, began + int(answer.first_token_s * 1e9))


def _recorded(each: Traced, length: int, book: Book) -> None:
    """Ask warm prompts while torch records in every process, and sum the traces up."""
    prompts = [text(length, f"recorded-{length}-{number}") for number in range(PROFILED)]
    for prompt in prompts:
        one(each.served, prompt)
    time.sleep(WRITTEN_S)
    before = _traces(each)
    bases = [item["metrics"].removesuffix("/metrics") for item in workers(each.bundle.plan)]
    (each.spans / "profile").touch()
    _wait(each.spans, "*.trace.json.recording")
    for base in bases:
        _post(f"{base}/start_profile")
    times = []
    for prompt in prompts:
        times.append(round(one(each.served, prompt).first_token_s * 1000, 2))
        time.sleep(0.2)
    for base in bases:
        _post(f"{base}/stop_profile")
    (each.spans / "profile").unlink()
    _wait(each.spans, "*.trace.json")
    for path in sorted(_traces(each) - before):
        process = path.name.split(".")[0] if path.parent == each.spans else path.parent.name
        found = _summed(path)
        book.note(
            "recorded", each.bundle.name, length=length, process=process, first_ms=times, **found
        )
        path.unlink()
    for left in each.spans.glob("*.recording"):
        left.unlink()


def _summed(path: Path) -> Mapping[str, Any]:
    try:
        return summary(path)
    except (ValueError, KeyError, OSError) as error:
        return {"error": repr(error)}


def _traces(each: Traced) -> set[Path]:
    """Return the traces of torch: the cache server's, and the engines' in their own folders."""
    found = set(each.spans.glob("*.trace.json"))
    for item in workers(each.bundle.plan):
        folder = each.bundle.folder / "traces" / item["name"]
        found |= {*folder.glob("*.pt.trace.json"), *folder.glob("*.pt.trace.json.gz")}
    return found


def _wait(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + RECORDED_WITHIN_S
    while not any(folder.glob(pattern)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {pattern} after {RECORDED_WITHIN_S} s")
        time.sleep(0.1)


def _post(url: str) -> None:
    request = urllib.request.Request(url, data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=RECORDED_WITHIN_S) as response:
        response.read()
