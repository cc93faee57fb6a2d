"""Print the result of `dync verify`, for people or as JSON."""

from __future__ import annotations

import json
from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from compiler.deploy.finding import Verdict
from compiler.deploy.verify.proof import Proof
from compiler.report.findings import finding_json, findings_table, mark

_SENTENCES = {
    Verdict.PASS: "proved: it caches",
    Verdict.WARN: "proved, with warnings",
    Verdict.FAIL: "not proved",
    Verdict.SKIP: "not proved: nothing could be looked at",
}


def print_proof(proof: Proof, console: Console) -> None:
    """Print findings, a table of the processes, what was measured, and the verdict."""
    console.print(Text.assemble((proof.name, "bold"), f"  {proof.url}  started by {proof.manager}"))
    console.print(findings_table(proof.findings))
    if proof.timings:
        console.print()
        console.print(_timings(proof))
    if any(transfer.moves for transfer in proof.transfers):
        console.print(_transfers(proof))
    console.print()
    console.print(_verdicts(proof))
    count = Counter(finding.verdict for finding in proof.findings)
    told = ", ".join(f"{count[item]} {item.value}" for item in Verdict if count[item])
    sentence = Text(_SENTENCES[proof.verdict], style="bold")
    console.print(
        mark(proof.verdict),
        Text(proof.name, style="bold"),
        sentence,
        f"({told}; {proof.took_s:.1f} s)",
    )


def _verdicts(proof: Proof) -> Text:
    line = Text()
    for process in proof.processes:
        line.append_text(mark(process.verdict)).append(f" {process.name}   ")
    return line


def _timings(proof: Proof) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0))
    for name in ("time to first token", "prompt", "new", "repeated", "faster"):
        table.add_column(name, justify="left" if name.startswith("time") else "right")
    for timing in proof.timings:
        table.add_row(
            timing.through,
            f"{timing.tokens} tokens",
            f"{timing.cold_s:.3f} s",
            f"{timing.warm_s:.3f} s",
            f"{timing.cold_s / timing.warm_s:.1f}x" if timing.warm_s else "",
        )
    return table


def _transfers(proof: Proof) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0))
    for name in ("NIXL to", "transfers", "bytes", "time", "rate"):
        table.add_column(name, justify="left" if name.startswith("NIXL") else "right")
    for transfer in proof.transfers:
        rate = transfer.bytes_per_s
        table.add_row(
            transfer.worker,
            f"{transfer.moves:.0f}",
            f"{transfer.moved_bytes / 1e6:.1f} MB",
            f"{transfer.moved_s * 1e3:.0f} ms",
            f"{rate / 1e9:.3f} GB/s" if rate else "-",
        )
    return table


def proof_json(proof: Proof) -> str:
    """Return a proof as JSON: seconds, bytes, tokens."""
    found = {
        "name": proof.name,
        "url": proof.url,
        "started_by": proof.manager,
        "verdict": proof.verdict.value,
        "proved": proof.is_proved,
        "took_s": round(proof.took_s, 3),
        "processes": [
            {"name": item.name, "verdict": item.verdict.value} for item in proof.processes
        ],
        "findings": [finding_json(item) for item in proof.findings],
        "time_to_first_token": [
            {
                "through": item.through,
                "prompt_tokens": item.tokens,
                "cold_s": round(item.cold_s, 4),
                "warm_s": round(item.warm_s, 4),
            }
            for item in proof.timings
        ],
        "nixl": [
            {
                "worker": item.worker,
                "bytes": item.moved_bytes,
                "transfers": item.moves,
                "seconds": item.moved_s,
                "bytes_per_s": item.bytes_per_s,
            }
            for item in proof.transfers
        ],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
