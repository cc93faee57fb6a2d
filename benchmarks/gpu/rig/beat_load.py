"""What the suites `beat-…` ask of deployments, each answer written down as it comes."""

from __future__ import annotations

import json
import os
import re
import statistics
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig.bundle import Launched
from benchmarks.gpu.rig.load import Served, at_once, one
from benchmarks.gpu.rig.prompts import text
from demo.client import Answer

COUNTED = re.compile(
    r"^([A-Za-z_:][\w:]*_(?:sum|count|total))(?:\{([^\n]*)\})? (\S+)$", re.MULTILINE
)
PHASE = re.compile(r'(?:phase|direction)="(\w+)"')
NOT_OURS = (
    "python_",
    "process_",
    "http_",
    "vllm:generation",
    "vllm:iteration",
    "vllm:request_para",
    "vllm:request_prompt",
)


FILLED_WITHIN_S = 40


@dataclass(frozen=True, slots=True)
class Deployment:
    """What serves: where its processes show metrics, on which GPUs, and when it did."""

    name: str
    url: str
    model: str
    metrics: Mapping[str, str]
    gpus: tuple[int, ...]
    ready_s: float

    @property
    def served(self) -> Served:
        """Return what load.py asks."""
        return self.url, self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is asked: lengths of prompts, and the working set, of which `turns` are counted."""

    lengths: tuple[int, ...] = (8000, 24000)
    repeats: int = 3
    prefixes: int = 24
    prefix_tokens: int = 4096
    own_tokens: int = 128
    rounds: int = 7
    concurrent: int = 64
    decoded: int = 256
    streams: int = 32


ON_CPU = Sizes(
    lengths=(520, 1100),
    repeats=2,
    prefixes=3,
    prefix_tokens=512,
    own_tokens=32,
    rounds=2,
    concurrent=4,
    decoded=16,
    streams=2,
)


@dataclass(frozen=True, slots=True)
class Book:
    """A file of one JSON object a line, so that a killed run loses nothing that was measured."""

    path: Path
    wave: str
    lock: threading.Lock

    def note(self, what: str, name: str, **values: Any) -> None:
        """Write down and print."""
        when = {"at": round(time.time(), 1), "wave": self.wave}
        row = json.dumps({**when, "what": what, "name": name, **values})
        with self.lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{row}\n")
        print(f"  {row[:700]}", flush=True)


def left_s() -> float:
    """Return how many seconds are left until BEAT_UNTIL."""
    return float(os.environ.get("BEAT_UNTIL", "inf")) - time.time()


def deployment(bundle: Launched) -> Deployment:
    """Return what a launched bundle serves."""
    shown = {each["name"]: each["metrics"] for each in bundle.plan["processes"]}
    gpus = {int(gpu) for each in bundle.plan["processes"] for gpu in each["gpus"]}
    ready_s = round(bundle.ready_s or 0, 1)
    served_name = bundle.plan["served_name"]
    return Deployment(bundle.name, bundle.url, served_name, shown, tuple(sorted(gpus)), ready_s)


def first_tokens(served: Sequence[Deployment], sizes: Sizes, book: Book) -> None:
    """Time the first token cold and twice warm, the deployments in turn and in changed order.

    What the processes counted meanwhile is kept: where the time of a warm prompt went.
    """
    for item in served:  # kernels are tuned and compiled at their first use
        for length in sizes.lengths:
            for number in range(2):
                one(item.served, text(length, f"warm-up-{item.name}-{number}"))
    for length in sizes.lengths:
        prompts = [text(length, f"timed-{length}-{number}") for number in range(sizes.repeats)]
        for kind in ("cold", "warm", "warm again"):
            time.sleep(0.5)  # storing goes on after the answer
            before = {item.name: counters(item) for item in served}
            times: dict[str, list[float]] = {item.name: [] for item in served}
            for number, prompt in enumerate(prompts):
                for item in reversed(served) if number % 2 else served:
                    times[item.name].append(round(one(item.served, prompt).first_token_s, 4))
            for item in served:
                book.note(
                    "first token",
                    item.name,
                    length=length,
                    kind=kind,
                    median_s=statistics.median(times[item.name]),
                    all_s=times[item.name],
                    counted=changed(before[item.name], counters(item)),
                )


def following(item: Deployment, sizes: Sizes, book: Book, turn: int) -> None:
    """Time the tokens after the first: one request alone, and some at once."""
    one(item.served, text(64, "following-warm-up"), 32)
    alone = [one(item.served, text(64, f"alone-{n}"), sizes.decoded) for n in range(2)]
    with ThreadPoolExecutor(sizes.streams) as pool:
        began = time.monotonic()
        asked = (text(64, f"many-{turn}-{number}") for number in range(sizes.streams))
        many = list(pool.map(lambda prompt: one(item.served, prompt, sizes.decoded), asked))
        took = time.monotonic() - began
    book.note(
        "following",
        item.name,
        turn=turn,
        one_ms_per_token=round(1000 * min(map(_each_s, alone)), 3),
        tokens_per_s=round(sum(answer.output_tokens for answer in many) / took, 1),
    )


def _each_s(answer: Answer) -> float:
    return (answer.total_s - answer.first_token_s) / max(answer.output_tokens - 1, 1)


def fill(item: Deployment, sizes: Sizes, book: Book, slow: set[str]) -> None:
    """Ask for every prefix of the working set once: cold for everyone, and not a turn.

    slow: gets the name of what took so long that its turns would cost the others theirs.
    """
    found = at_once(item.served, _round(sizes, "fill"), sizes.concurrent)
    book.note("fill", item.name, **found)
    if found["took_s"] > FILLED_WITHIN_S:
        slow.add(item.name)


def working_set(item: Deployment, sizes: Sizes, book: Book, turn: int) -> None:
    """Ask for the prefixes in turn, many at once, each with some tokens of its own.

    Every prefix comes back after all others: what does not fit the engine's cache is gone by then.
    """
    prompts = [
        prompt for number in range(sizes.rounds) for prompt in _round(sizes, f"{turn}-{number}")
    ]
    before = counters(item)
    found = at_once(item.served, prompts, sizes.concurrent)
    since = changed(before, counters(item))
    book.note("working set", item.name, turn=turn, **found, counted=since)


def _round(sizes: Sizes, tag: str) -> list[str]:
    return [
        text(sizes.prefix_tokens, f"beat-prefix-{number}")
        + text(sizes.own_tokens, f"beat-own-{tag}-{number}")
        for number in range(sizes.prefixes)
    ]


def shared_prefix(item: Deployment, sizes: Sizes, book: Book) -> None:
    """Ask many at once behind one prefix."""
    prefix = text(sizes.lengths[0], "beat-shared")
    one(item.served, prefix)
    prompts = [
        prefix + text(sizes.own_tokens, f"beat-shared-own-{number}")
        for number in range(sizes.concurrent)
    ]
    book.note("one prefix", item.name, **at_once(item.served, prompts, sizes.concurrent))


def counters(item: Deployment) -> dict[str, float]:
    """Return what the processes count and sum up; nothing where one does not answer."""
    found: dict[str, float] = {}
    for process, url in item.metrics.items():
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                said = response.read().decode()
        except OSError:
            continue
        for name, labels, value in COUNTED.findall(said):
            if not name.startswith(NOT_OURS):
                key = " ".join([process, name, *PHASE.findall(labels)])
                found[key] = found.get(key, 0) + float(value)
    return found


def changed(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what was counted between."""
    differ = {name: value - before.get(name, 0) for name, value in after.items()}
    return {name: float(f"{value:.6g}") for name, value in differ.items() if value}
