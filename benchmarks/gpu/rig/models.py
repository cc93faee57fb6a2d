"""Models of other kinds than plain attention: whether each starts, hits, and answers rightly.

All are launched side by side. What does not serve leaves the end of its workers' logs, what fails
later its error, and the others go on. Each prompt is asked alone first (a salt of its own, so that
nothing is there), then cold, then warm: `noise` is between the first two, `warm` between the last.
`moves` says what another first half of the prompt changes: a model that it does not move proves
nothing. Every row is a line of OUT/models.jsonl at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu import kinds
from benchmarks.gpu.rig.beat_load import Book
from benchmarks.gpu.rig.bundle import Launched, launched, workers
from benchmarks.gpu.rig.exact import HITS, WRONG, compare
from benchmarks.gpu.rig.kit import KIT, Kit
from benchmarks.gpu.rig.prompts import text
from benchmarks.gpu.rig.truth import dync
from demo.client import first_logprobs, metric

ON_CPU_PROMPTS = 2
TAIL_LINES = 8
CAUSE = re.compile(r"\w+(?:Error|Exception): .+")
OWN_HITS = "vllm:prefix_cache_hits_total"
STORED_S = 1.0
"""Storing goes on after the answer."""


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Launch one bundle for each kind, or those that KINDS names, and ask each."""
    book = Book(logs.parents[1] / "models.jsonl", logs.name, threading.Lock())
    kinds.write(Path(kit.kinds_folder))
    names = os.environ["KINDS"].split() if "KINDS" in os.environ else kit.kinds
    with ThreadPoolExecutor(len(names)) as pool:
        held = pool.map(lambda name: _make(kit, name, book), names)
        made = [name for name, is_made in zip(names, held, strict=True) if is_made]
    with launched(made, logs, 240 if kit.on_gpu else 600) as bundles:
        serving = {bundle.name for bundle in bundles}
        for name in made:
            if name not in serving:
                book.note("failed", name, error="does not serve", ends=ends(name))
        with ThreadPoolExecutor(len(bundles) or 1) as pool:
            rows = list(pool.map(lambda bundle: _kind(kit, bundle, book), bundles))
    return dict(zip([bundle.name for bundle in bundles], rows, strict=True))


def _make(kit: Kit, name: str, book: Book) -> bool:
    """Make the model of a kind with the stack's Python, or this one; one that fails is told."""
    script = KIT / "benchmarks/gpu/rig/make_kind.py"
    words = [str(script), f"{kit.kinds_folder}/{name}", kit.models["tiny"]]
    said = []
    for python in (kit.python, sys.executable):
        try:
            subprocess.run(
                [python, *words], capture_output=True, text=True, check=True, timeout=120
            )
            return True
        except subprocess.TimeoutExpired as error:
            said.append(str(error))
        except subprocess.CalledProcessError as error:
            said += error.stderr.splitlines()[-TAIL_LINES:]
    book.note("failed", name, error="no model", ends=said)
    return False


def ends(name: str) -> dict[str, list[str]]:
    """Return what each process of a bundle said about its end."""
    found = {}
    for log in sorted((KIT / "bundles" / name / "logs").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        causes = list(dict.fromkeys(CAUSE.findall("\n".join(lines))))
        found[log.stem] = [line[:400] for line in (*causes[:6], *lines[-TAIL_LINES:])]
    return found


def _kind(kit: Kit, bundle: Launched, book: Book) -> dict[str, Any]:
    try:
        return _told(kit, bundle, book)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        book.note("failed", bundle.name, error=repr(error), ends=ends(bundle.name))
        return {"error": repr(error)}


def _told(kit: Kit, bundle: Launched, book: Book) -> dict[str, Any]:
    """Ask, each answer told at once, then `dync verify`; return what came of the kind."""
    rows = []
    for row in _asked(kit, bundle):
        book.note("asked", bundle.name, **row)
        rows.append(row)
    said = dync(kit, "verify", bundle.name)
    wrong = [
        f"{item['verdict']} {item['subject']}: {item['message']}"
        for item in said["result"].get("findings", ())
        if item["verdict"] != "pass"
    ]
    book.note("verify", bundle.name, status=said["status"], said=wrong[:6])
    hit = sum(row["hits"] > 0 for row in rows)
    most = max(row["warm"] for row in rows)
    summary = {
        "ready_s": round(bundle.ready_s or 0, 1),
        "hit": f"{hit} of {len(rows)}",
        "warm": most,
        "noise": max(row["noise"] for row in rows),
        "moves": min(row["moves"] for row in rows),
        "right": most <= WRONG,
        "verify": said["status"],
    }
    book.note("kind", bundle.name, **summary)
    return {**summary, "rows": rows}


def _asked(kit: Kit, bundle: Launched) -> Iterator[dict[str, Any]]:
    """Ask each prompt; with adapters, the second one after the first has left its KV.

    Bundles of one model are asked the same prompts.
    """
    model = "-".join(bundle.name.split("-")[:2])
    for length in kinds.KINDS[bundle.name].prompts[: None if kit.on_gpu else ON_CPU_PROMPTS]:
        tag = f"{model}-{length}"
        prompt, other = text(length, tag), text(length // 2, f"{tag}-other")
        other += prompt[len(other) :]
        name = bundle.plan["served_name"]
        alone = _first(kit, bundle, name, prompt, salt=f"{tag}-alone")
        moved = _first(kit, bundle, name, other, salt=f"{tag}-moved")
        cold, _ = _counted(kit, bundle, name, prompt)
        warm, hits = _counted(kit, bundle, name, prompt)
        yield {
            "length": length,
            "hits": hits,
            "noise": compare(length, 0, alone, cold).difference,
            "warm": compare(length, 0, cold, warm).difference,
            "moves": compare(length, 0, alone, moved).difference,
        }
        yield _shared(kit, bundle, prompt, f"{tag}-shared", length)
        if kinds.KINDS[bundle.name].adapters:
            yield _adapters(kit, bundle, f"{tag}-adapters", length)


def _shared(kit: Kit, bundle: Launched, prompt: str, tag: str, length: int) -> dict[str, Any]:
    """Ask a prompt whose first half is another's, which is cached: by itself, and after it."""
    name, half = bundle.plan["served_name"], len(prompt) // 2
    mine = prompt[:half] + text(length, tag)[half:]
    alone = _first(kit, bundle, name, mine, salt=tag)
    moved = _first(kit, bundle, name, text(length, f"{tag}-moved")[:half] + mine[half:], salt=tag)
    after, hits = _counted(kit, bundle, name, mine)
    return {
        "length": length,
        "hits": hits,
        "asked": "the first half of another prompt",
        "noise": 0.0,
        "warm": compare(length, 0, alone, after).difference,
        "moves": compare(length, 0, alone, moved).difference,
    }


def _adapters(kit: Kit, bundle: Launched, tag: str, length: int) -> dict[str, Any]:
    """Ask adapter b what adapter a was asked before: by itself, and with what a has left."""
    prompt = text(length, tag)
    alone = {name: _first(kit, bundle, name, prompt, salt=f"{tag}-{name}") for name in "ab"}
    _counted(kit, bundle, "a", prompt)
    after, hits = _counted(kit, bundle, "b", prompt)
    return {
        "length": length,
        "hits": hits,
        "asked": "adapter b after adapter a",
        "noise": 0.0,
        "warm": compare(length, 0, alone["b"], after).difference,
        "moves": compare(length, 0, alone["a"], alone["b"]).difference,
    }


def _counted(kit: Kit, bundle: Launched, model: str, prompt: str) -> tuple[dict[str, float], int]:
    """Return the answer and the hit tokens of what the kind is about.

    That is LMCache, beside NIXL in a pair, with the engines' own caches empty; or these.
    """
    shown = [item["metrics"] for item in workers(bundle.plan)]
    keeps = kinds.KINDS[bundle.name].keeps
    if not keeps:
        _forget(shown)
    counter = OWN_HITS if keeps else HITS
    before = sum(metric(url, counter) for url in shown)
    answer = _first(kit, bundle, model, prompt)
    time.sleep(STORED_S)
    return answer, int(sum(metric(url, counter) for url in shown) - before)


def _first(
    kit: Kit, bundle: Launched, model: str, prompt: str, salt: str | None = None
) -> dict[str, float]:
    more = {**kit.likeliest, **({"cache_salt": salt} if salt else {})}
    return first_logprobs(bundle.url, model, prompt, 60, **more)


def _forget(shown: Sequence[str]) -> None:
    for url in shown:
        target = f"{url.removesuffix('/metrics')}/reset_prefix_cache"
        request = urllib.request.Request(target, data=b"", method="POST")
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()
