"""Prefill and decode on one GPU without NVLink: what UCX reads over, and what `verify` says of it.

All pairs run side by side and are asked in turn. Each says its first tokens, cold and warm, how
fast NIXL moved, over what UCX says it read, and which findings of `dync verify` name NIXL.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig.beat_load import ON_CPU, Book, changed, counters, deployment, left_s
from benchmarks.gpu.rig.bundle import Launched, launched
from benchmarks.gpu.rig.kit import Kit
from benchmarks.gpu.rig.load import one
from benchmarks.gpu.rig.models import ends
from benchmarks.gpu.rig.nixl_pair import protocols
from benchmarks.gpu.rig.prompts import text
from benchmarks.gpu.rig.truth import dync

LENGTHS = (4096, 8000)
REPEATS = 3


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Launch the pairs and ask each."""
    book = Book(logs.parents[1] / "tcp.jsonl", logs.name, threading.Lock())
    with launched(kit.tcp, logs, 330 if kit.on_gpu else 600) as bundles:
        for name in {*kit.tcp} - {bundle.name for bundle in bundles}:
            book.note("failed", name, error="does not serve", ends=ends(name))
        return {bundle.name: _pair(kit, bundle, book) for bundle in bundles}


def _pair(kit: Kit, bundle: Launched, book: Book) -> dict[str, Any]:
    try:
        return _asked(kit, bundle, book)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        book.note("failed", bundle.name, error=repr(error), ends=ends(bundle.name))
        return {"error": repr(error)}


def _asked(kit: Kit, bundle: Launched, book: Book) -> dict[str, Any]:
    served = deployment(bundle)
    for number in range(2):
        one(served.served, text(LENGTHS[0], f"warm-up-{number}"))
    for length in LENGTHS if kit.on_gpu else ON_CPU.lengths:
        prompts = [text(length, f"{bundle.name}-{length}-{number}") for number in range(REPEATS)]
        for kind in ("cold", "warm"):
            if left_s() < 0:
                break
            before = counters(served)
            times = [round(one(served.served, prompt).first_token_s, 4) for prompt in prompts]
            time.sleep(0.5)
            since = changed(before, counters(served))
            nixl = {name: value for name, value in since.items() if "nixl" in name}
            book.note(
                "first token", bundle.name, length=length, kind=kind, all_s=times, counted=nixl
            )
    said = dync(kit, "verify", bundle.name)
    nixl_says = [
        f"{item['verdict']} {item['check']} {item['subject']}: {item['message']}"
        for item in said["result"].get("findings", ())
        if item["verdict"] != "pass" or item["check"] == "nixl"
    ]
    log = bundle.folder / "logs/decode-0.log"
    over = protocols(log.read_text(errors="replace"))
    found = {"status": said["status"], "verify": nixl_says, "ucx": over[:12]}
    book.note("verify", bundle.name, **found)
    return {"ready_s": bundle.ready_s, **found}
