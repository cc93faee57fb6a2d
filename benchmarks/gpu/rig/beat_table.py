"""Say in tables what beat.jsonl holds: python -m benchmarks.gpu.rig.beat_table FILE."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
SPLIT = {
    "queue": "vllm:request_queue_time_seconds",
    "compute": "vllm:request_prefill_time_seconds",
    "engine": "vllm:time_to_first_token_seconds",
    "lookup": "vllm:lmcache_mp_lookup_duration_seconds",
    "nixl": "vllm:nixl_xfer_time_seconds",
    "post": "vllm:nixl_post_time_seconds",
}
"""What the engines sum up of a first token, in seconds: waiting for KV is in `queue`."""


def main() -> None:
    """Print one table of what was asked for, and one of where warm first tokens went."""
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
    heads = ["wave", "", "ready", "first token by length: cold; warm", "working set, requests/s"]
    heads += ["first token p50", "one prefix", "ms a token", "tokens/s"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for wave, name in dict.fromkeys((row["wave"], row["name"]) for row in rows):
        held = [row for row in rows if (row["wave"], row["name"]) == (wave, name)]
        print(f"| {wave} | {name} | {' | '.join(_cells(held))} |")
    for row in rows:
        if row["what"] in ("failed", "verify"):
            print(row["name"], row["what"], row.get("status", ""), row.get("error", ""))
    print("\nWarm first tokens, ms each; GB/s as the cache server measured it on its stream")
    for row in rows:
        if row["what"] == "first token" and row["kind"] != "cold":
            print(f"{row['name']} {row['length']} {row['median_s'] * 1000:.1f}: {_split(row)}")


def _cells(rows: Sequence[Row]) -> list[str]:
    lengths: dict[int, dict[str, list[float]]] = {}
    for row in (row for row in rows if row["what"] == "first token"):
        kind = "cold" if row["kind"] == "cold" else "warm"
        lengths.setdefault(row["length"], {}).setdefault(kind, []).extend(row["all_s"])
    first = ", ".join(
        f"{length}: {'; '.join(_spread(times) for times in kinds.values())}"
        for length, kinds in lengths.items()
    )
    return [
        ", ".join(_all(rows, "ready", "ready_s")),
        first,
        ", ".join(_all(rows, "working set", "requests_per_s")),
        ", ".join(_all(rows, "working set", "first_token_p50_s")),
        ", ".join(_all(rows, "one prefix", "requests_per_s")),
        ", ".join(_all(rows, "following", "one_ms_per_token")),
        ", ".join(_all(rows, "following", "tokens_per_s")),
    ]


def _spread(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f})"


def _all(rows: Iterable[Row], what: str, key: str) -> list[str]:
    return [f"{row[key]:g}" for row in rows if row["what"] == what]


def _split(row: Row) -> str:
    """Return the milliseconds of a request by worker, and the rates of copies."""
    counted = row["counted"]
    found = []
    for process in dict.fromkeys(key.split()[0] for key in counted):
        for short, metric in SPLIT.items():
            count = counted.get(f"{process} {metric}_count")
            if count:
                each = 1000 * counted.get(f"{process} {metric}_sum", 0) / count
                found.append(f"{process} {short} {each:.1f}")
        for key, value in counted.items():
            if key.startswith(f"{process} ") and "throughput" in key and key.endswith("_sum"):
                rate = value / counted.get(f"{key.removesuffix('_sum')}_count", 1)
                found.append(f"{key.removesuffix('_sum').removeprefix('lmcache')} {rate:.1f}")
    return ", ".join(found)


if __name__ == "__main__":
    main()
