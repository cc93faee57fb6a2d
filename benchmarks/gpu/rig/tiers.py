"""Storage tiers of launched bundles: a new deployment reads what one before it stored, rightly.

Every tier is asked again after a restart, when the host memory is empty. A disk in process forgets:
it is asked within the run, once later prompts have taken the memory, and after a restart has none.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import lines
from benchmarks.gpu.rig.bundle import Launched, launched
from benchmarks.gpu.rig.engine import Running, start, wait_ready
from benchmarks.gpu.rig.exact import HITS, WRONG, compare
from benchmarks.gpu.rig.kit import KIT, Kit
from benchmarks.gpu.rig.prompts import text
from benchmarks.gpu.rig.stores import Store, stores, tier_of
from benchmarks.gpu.rig.truth import dync
from demo.client import first_logprobs, metric

LENGTHS, LONGEST_ON_CPU = (257, 400, 512, 513, 700, 768, 1500, 3000, 6000), 1500
LATER = 12  # prompts of the greatest length: more than the host memory of a disk that forgets
STILL_S, STORED_WITHIN_S = 4, 60
SERVES_WITHIN_S, ON_CPU_WITHIN_S = 300, 900
ROLE = "aggregated"
Likeliest = dict[int, dict[str, float]]
"""By prompt length, the likeliest first tokens."""


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Launch every bundle with a tier, store, launch all again, and compare."""
    plans = {
        name: json.loads((KIT / "bundles" / name / "plan.json").read_text()) for name in kit.tiers
    }
    found: dict[str, dict[str, Any]] = {name: {} for name in plans}
    sooner = () if kit.on_gpu else ("--enforce-eager",)
    plain = lines.worker(kit, "plain", kit.spare_port, "--no-enable-prefix-caching", *sooner)
    with ExitStack() as stack:
        held = stack.enter_context(stores(kit, plans, logs / "stores"))
        reference = start(plain, logs)
        stack.callback(reference.kill)
        runnable = [name for name, store in held.items() if not store.failed]
        colds: dict[str, tuple[Likeliest, Likeliest]] = {}

        def first(bundle: Launched) -> None:
            colds[bundle.name] = _first(
                bundle, reference, kit, held[bundle.name], found[bundle.name]
            )

        def again(bundle: Launched) -> None:
            _again(bundle, kit, colds[bundle.name], found[bundle.name])

        within_s = SERVES_WITHIN_S if kit.on_gpu else ON_CPU_WITHIN_S
        for act, part in ((first, "first"), (again, "again")):
            with launched(runnable, logs / part, within_s) as bundles:
                if not wait_ready([reference], within_s):
                    raise RuntimeError("the engine without a cache is not ready")
                _side_by_side(act, bundles, found)
            runnable = [bundle.name for bundle in bundles if bundle.name in colds]
    for name, row in found.items():
        row["store"] = held[name].failed or "ran"
        row["held"] = _held(row)
        print(f"  {name}: {_in_words(row)}", flush=True)
    return found


def _side_by_side(
    act: Callable[[Launched], None],
    bundles: Sequence[Launched],
    found: Mapping[str, dict[str, Any]],
) -> None:
    """Do the same with each; what fails is kept, and the others go on."""

    def guarded(bundle: Launched) -> None:
        try:
            act(bundle)
        except (OSError, KeyError, ValueError) as error:
            found[bundle.name]["error"] = repr(error)

    with ThreadPoolExecutor(len(bundles) or 1) as pool:
        list(pool.map(guarded, bundles))


def _first(
    bundle: Launched, reference: Running, kit: Kit, store: Store, row: dict[str, Any]
) -> tuple[Likeliest, Likeliest]:
    """Send every length cold, wait until it is stored, and ask a tier that forgets at once."""
    row["ready_s"] = bundle.ready_s
    alone: Likeliest = {}
    cold: Likeliest = {}
    for length in LENGTHS if kit.on_gpu else (n for n in LENGTHS if n <= LONGEST_ON_CPU):
        prompt = text(length, f"{bundle.name}-{length}")
        url = f"{reference.line.url}/v1"
        alone[length] = first_logprobs(url, "m", prompt, **kit.likeliest)
        cold[length] = _ask(bundle, prompt, kit)
    row["cold_hits"] = int(metric(bundle.metrics(ROLE), HITS))
    row["chunks"] = sum(length // kit.chunk_size for length in cold)
    row["stored"], row["stored_s"] = _stored(store)
    if _forgets(bundle.plan):
        for number in range(LATER):
            _ask(bundle, text(max(LENGTHS), f"{bundle.name}-later-{number}"), kit)
        row["rows"] = _warm(bundle, kit, alone, cold)
    row["counters"] = _counters(bundle)
    return alone, cold


def _again(
    bundle: Launched, kit: Kit, before: tuple[Likeliest, Likeliest], row: dict[str, Any]
) -> None:
    """Send the same prompts to the restarted deployment, and have dync verify prove it."""
    row["again_ready_s"] = bundle.ready_s
    row["again_hits_before"] = int(metric(bundle.metrics(ROLE), HITS))
    rows = _warm(bundle, kit, *before)
    row["again" if _forgets(bundle.plan) else "rows"] = rows
    row["counters_again"] = _counters(bundle)
    row["verify"] = dync(kit, "verify", bundle.name)


def _forgets(plan: Mapping[str, Any]) -> bool:
    """Return whether a restart empties the tier: dync clears the folder of a disk in process."""
    tier = tier_of(plan)
    return tier["kind"] == "disk" and not tier["persistent"]


def _ask(bundle: Launched, prompt: str, kit: Kit) -> dict[str, float]:
    return first_logprobs(bundle.url, bundle.plan["served_name"], prompt, **kit.likeliest)


def _warm(bundle: Launched, kit: Kit, alone: Likeliest, cold: Likeliest) -> list[dict[str, Any]]:
    rows = []
    for length in cold:
        seen = metric(bundle.metrics(ROLE), HITS)
        warm = _ask(bundle, text(length, f"{bundle.name}-{length}"), kit)
        row: dict[str, Any] = {
            "length": length,
            "hits": int(metric(bundle.metrics(ROLE), HITS) - seen),
            "cold": compare(length, 0, alone[length], cold[length]).difference,
            "warm": compare(length, 0, alone[length], warm).difference,
            "warm_and_cold": compare(length, 0, cold[length], warm).difference,
        }
        if max(row["cold"], row["warm"], row["warm_and_cold"]) > WRONG:
            row["answers"] = {"alone": alone[length], "cold": cold[length], "warm": warm}
        rows.append(row)
    return rows


def _stored(store: Store) -> tuple[int, float]:
    """Wait until the store holds something and no more comes; return how much, and the seconds."""
    began = changed = time.monotonic()
    held = -1
    while time.monotonic() - began < STORED_WITHIN_S:
        now = store.held()
        if now != held:
            held, changed = now, time.monotonic()
        if held > 0 and time.monotonic() - changed > STILL_S:
            break
        time.sleep(0.3)
    return held, round(changed - began, 1)


def _counters(bundle: Launched) -> dict[str, float]:
    """Return what LMCache counts of its tiers, where the worker shows it."""
    with urllib.request.urlopen(bundle.metrics(ROLE), timeout=30) as response:
        said = response.read().decode()
    wanted = r"^(lmcache:(?:num_(?:remote|hit|stored)|local_storage|local_cpu_evict|remote_put)\w*)"
    found: dict[str, float] = {}
    for name, value in re.findall(rf"{wanted}(?:{{[^\n]*}})? (\S+)$", said, re.MULTILINE):
        if not name.endswith(("_created", "_bucket")):
            found[name] = found.get(name, 0) + float(value)
    return found


def _held(row: Mapping[str, Any]) -> bool:
    """Return whether all hit what only the tier had, answered rightly, and were proved."""
    rows = row.get("rows", ())
    return bool(
        rows
        and row["cold_hits"] == 0
        and all(item["hits"] > 0 and _right(item) for item in rows)
        and all(_right(item) and not item["hits"] for item in row.get("again", ()))
        and row.get("verify", {}).get("status") == 0
    )


def _right(row: Mapping[str, Any]) -> bool:
    return bool(max(row["cold"], row["warm"], row["warm_and_cold"]) <= WRONG)


def _in_words(row: Mapping[str, Any]) -> str:
    rows = row.get("rows", ())
    hit = sum(item["hits"] > 0 for item in rows)
    most = max((max(item["warm"], item["warm_and_cold"]) for item in rows), default=None)
    verify = row.get("verify", {}).get("status")
    said = "as it should" if row["held"] else f"WRONG: {json.dumps(row)[:3000]}"
    return (
        f"{row.get('stored')} stored of {row.get('chunks')} chunks, {hit} of {len(rows)} hit, "
        f"differs by {most} at most, verify ends with {verify}: {said}"
    )
