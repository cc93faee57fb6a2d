"""Say in tables what trace.jsonl holds: python -m benchmarks.gpu.rig.trace_table FILE."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
TOKEN_BYTES = 147_456
"""KV of a token of the 8B shape; beside it a copy's limit is told."""
STAGES: Mapping[str, str] = {
    "to the engine core": "HTTP and tokens, to the engine core",
    "until its answer is seen": "lookup in the cache server",
    "until its stream is there": "scheduled, copy asked for",
    "copied": "copied",
    "until it is scheduled": "copy seen, step scheduled",
    "step issued": "step issued",
    "computed and sampled": "step computed and sampled",
    "to decode's engine core": "router, HTTP and tokens, to decode's engine core",
    "decode: pieces listed": "decode: NIXL asked",
    "decode: reads posted": "decode: reads posted",
    "decode: transfer, until it is seen": "decode: transfer, until it is seen",
    "decode: computed and sampled": "decode: scheduled, issued, computed",
    "back to the client": "back to the client",
}
"""The short table's rows, each by the last part that belongs to it."""


def main() -> None:
    """Print the parts of warm prompts, and what torch recorded of them."""
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
    for row in rows:
        if row["what"] == "limit":
            print(f"limit {row['name']}: {row['bytes']} bytes, {row['gb_per_s']} GB/s")
        if row["what"] == "failed":
            print(row["name"], row.get("length"), "failed:", row["error"])
    timed = [row for row in rows if row["what"] == "parts"]
    _short(timed, rows)
    for name, length in dict.fromkeys((row["name"], row["length"]) for row in timed):
        held = [row for row in timed if (row["name"], row["length"]) == (name, length)]
        _parts(name, length, held, rows)
    for row in rows:
        if row["what"] == "recorded":
            _recorded(row)


def stages(parts: Sequence[Row]) -> dict[str, float]:
    """Return an answer's parts in the short table's rows; together they are the whole."""
    found: dict[str, float] = {}
    since = 0.0
    for part in parts:
        since += part["ms"]
        if part["part"] in STAGES:
            found[STAGES[part["part"]]] = since
            since = 0.0
    return found


def _short(timed: Sequence[Row], rows: Sequence[Row]) -> None:
    """Print one table of all warm answers: a column for each bundle and length, medians."""
    columns = sorted({(row["name"], row["length"]) for row in timed})
    held = [[row for row in timed if (row["name"], row["length"]) == column] for column in columns]
    warm = [[row for row in each if row["kind"] != "cold"] for each in held]
    cold = [[row for row in each if row["kind"] == "cold"] for each in held]
    print()
    _line("warm, ms", [f"{name} {length:,}" for name, length in columns])
    print("|---" * (len(columns) + 1) + "|")
    found = [[stages(row["parts"]) for row in each] for each in warm]
    for stage in STAGES.values():
        _line(stage, [_median([each[stage] for each in some if stage in each]) for some in found])
    for kind, some in (("warm", warm), ("cold", cold)):
        firsts = [[row["first_token_ms"] for row in each] for each in some]
        _line(f"first token, {kind}", [_median(each) for each in firsts])
    _line("the copy at its limit", [_median([_limit_ms(rows, length)]) for _, length in columns])


def _median(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.1f}" if any(times) else ""


def _line(head: str, cells: Sequence[str]) -> None:
    print("|", " | ".join((head, *cells)), "|")


def _parts(name: str, length: int, held: Sequence[Row], rows: Sequence[Row]) -> None:
    cold = [row["first_token_ms"] for row in held if row["kind"] == "cold"]
    warm = [row for row in held if row["kind"] != "cold"]
    if not warm:
        return
    whole = statistics.median(row["first_token_ms"] for row in warm)
    print(f"\n{name}, {length} tokens: cold {statistics.median(cold or [0]):.1f} ms, ", end="")
    print(f"warm {whole:.1f} ms (median of {len(warm)}), hit {_hit(warm[-1])} tokens")
    print("| part | ms, median | from | to | limit, ms |\n|---|---|---|---|---|")
    limit = _limit_ms(rows, length)
    for part in dict.fromkeys(each["part"] for row in warm for each in row["parts"]):
        times = [each["ms"] for row in warm for each in row["parts"] if each["part"] == part]
        bound = f"{limit:.1f}" if part == "copied" and limit else ""
        middle = statistics.median(times)
        print(f"| {part} | {middle:.2f} | {min(times):.2f} | {max(times):.2f} | {bound} |")

    for phase, each in warm[-1]["phases"].items():
        rate = each["bytes"] / each["ms"] / 1e6 if each["ms"] else 0
        print(f"  {phase}: {each['number']} from {each['from_ms']} to {each['to_ms']} ms, ", end="")
        print(f"{each['bytes'] / 1e6:.0f} MB in {each['ms']} ms, {rate:.1f} GB/s")


def _hit(row: Row) -> int:
    """Return what the lookup found."""
    found = [each["said"] for each in row["parts"] if each["part"] == "until its answer is seen"]
    return int(found[0]) if found else 0


def _limit_ms(rows: Sequence[Row], length: int) -> float:
    """Return how long a pinned copy of the prompt's whole chunks took at best, or 0."""
    count = length // 256 * 256 * TOKEN_BYTES
    rates = [
        row["gb_per_s"]
        for row in rows
        if row["what"] == "limit" and row["name"].startswith("host to gpu 0")
    ]
    return count / max(rates) / 1e6 if rates else 0.0


def _recorded(row: Row) -> None:
    head = f"{row['name']}, {row['length']} tokens, {row['process']}"
    print(
        f"\n{head}, recorded while first tokens took {row['first_ms']} ms: {row.get('error', '')}"
    )
    for kind, bursts in row.get("copies", {}).items():
        for burst in bursts:
            print(f"  {kind}: {_said(burst)}")
    for burst in row.get("kernels", [])[:6]:
        print(f"  kernels: {_said(burst)}")
    for group in ("calls", "annotations", "operators"):
        for name, each in list(row.get(group, {}).items())[:5]:
            print(f"  {group}: {name}: {each['number']} in {each['ms']} ms", end="")
            print(f", the longest {each['longest_ms']}")


def _said(burst: Mapping[str, Any]) -> str:
    return (
        f"{burst['number']} of {burst['bytes'] / 1e6:.1f} MB in {burst['window_ms']} ms, "
        f"busy {burst['busy_ms']}, gaps {burst['gaps_ms']} (longest {burst['longest_gap_ms']}), "
        f"{burst['gb_per_s']} GB/s"
    )


if __name__ == "__main__":
    main()
