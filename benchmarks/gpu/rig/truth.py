"""What dync doctor, status and verify say here: healthy deployments pass, each fault is named."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig.bundle import Launched, launched, workers
from benchmarks.gpu.rig.kit import KIT, Kit

AT_ONCE = 14
"""Workers side by side on one GPU, some 3 GB each."""
WITHIN_S = 240


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Ask doctor before a start, status and verify of what runs, and check it against the fault."""
    found: dict[str, Any] = {}
    for names in _in_turn((*kit.proved, *kit.faults)):
        with ThreadPoolExecutor(len(names)) as pool:
            before = dict(
                zip(names, pool.map(lambda name: dync(kit, "doctor", name), names), strict=True)
            )
            with launched(names, logs, WITHIN_S, kit.faults) as bundles:
                told = list(pool.map(lambda bundle: _told(kit, bundle), bundles))
        for bundle, row in zip(bundles, told, strict=True):
            row["doctor"] = before[bundle.name]
            row["ready_s"] = bundle.ready_s
            row["held"] = _held(kit.faults.get(bundle.name), row)
            found[bundle.name] = row
            said = "as it should" if row["held"] else f"WRONG: {json.dumps(row['verify'])[:1500]}"
            print(f"  {bundle.name}: {said}", flush=True)
    return found


def _in_turn(names: Sequence[str]) -> Iterator[list[str]]:
    """Group bundles so that their workers fit on the GPU together."""
    group: list[str] = []
    for name in names:
        if sum(map(_workers, (*group, name))) > AT_ONCE:
            yield group
            group = []
        group.append(name)
    yield group


def _workers(name: str) -> int:
    plan = json.loads((KIT / "bundles" / name / "plan.json").read_text(encoding="utf-8"))
    return len(workers(plan))


def _told(kit: Kit, bundle: Launched) -> dict[str, Any]:
    return {command: dync(kit, command, bundle.name) for command in ("verify", "status")}


def dync(kit: Kit, command: str, name: str) -> dict[str, Any]:
    """Run a dync command of the kit on one of its bundles; return status, seconds and result."""
    words = [kit.python, "-m", "compiler", command, str(KIT / "bundles" / name)]
    began = time.monotonic()
    done = subprocess.run(
        [*words, "--format", "json"], cwd=KIT, capture_output=True, text=True, check=False
    )
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = {"said": (done.stdout + done.stderr)[-3000:]}
    took_s = round(time.monotonic() - began, 2)
    return {"status": done.returncode, "took_s": took_s, "result": result}


def _held(says: str | None, row: Mapping[str, Any]) -> bool:
    """Return whether verify proved a healthy deployment, or said a fault's words."""
    verified = row["verify"]
    if says is None:
        return bool(verified["status"] == 0)
    spoken = [
        f"{item['subject']}: {item['message']}"
        for item in verified["result"].get("findings", ())
        if item["verdict"] in ("fail", "warn")
    ]
    return any(re.search(says, text) for text in spoken)
