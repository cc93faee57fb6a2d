"""Print what a deployment does, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from compiler.byte_units import GIB
from compiler.deploy.status.activity import Fill, Hits, Moved
from compiler.deploy.status.status import ProcessStatus, Status
from compiler.deploy.verify.record import Record

_NUMBERS = ("up", "restarts", "requests", "engine cache", "LMCache")
_WIDTHS = {"state": 9, "engine cache": 6, "LMCache": 7}
"""Columns that a narrow terminal breaks, and how far."""
_COLUMNS = ("process", "state", *_NUMBERS, "filled", "NIXL")


def status_view(status: Status) -> RenderableType:
    """Return a deployment as a table under its name and address."""
    generation = f", generation {status.generation}" if status.generation is not None else ""
    head = Text.assemble(
        (status.name, "bold"), f"  {status.url}  started by {status.manager}{generation}"
    )
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in _COLUMNS:
        justify: Literal["left", "right"] = "right" if name in _NUMBERS else "left"
        least = _WIDTHS.get(name)
        table.add_column(name, justify=justify, no_wrap=least is None, min_width=least)
    for process in status.processes:
        table.add_row(*_row(process))
    lines = [Text(f"drop-in {path}", style="yellow") for path in status.drop_ins]
    left = [
        Text(f"{unit} runs on from another generation: install again, or uninstall", style="red")
        for unit in status.left
    ]
    return Group(head, table, *_proof(status), *left, *lines)


def print_status(status: Status, console: Console) -> None:
    """Print a deployment as a table."""
    console.print(status_view(status))


def status_json(status: Status) -> str:
    """Return a status as JSON: tokens, bytes, seconds; null where nothing is known."""
    found = {
        "name": status.name,
        "url": status.url,
        "started_by": status.manager,
        "generation": status.generation,
        "ready": status.is_ready,
        "proof": _proof_json(status.proof),
        "processes": [_process_json(process) for process in status.processes],
        "drop_ins": [str(path) for path in status.drop_ins],
        "left": list(status.left),
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _proof(status: Status) -> Iterator[Text]:
    proof = status.proof
    if proof is None:
        yield Text(f"not proved here: dync verify {status.named}", style="dim")
    elif proof.is_proved:
        yield Text(f"proved on {proof.at[:10]} at {proof.at[11:16]} UTC", style="green")
    else:
        yield Text(f"not proved on {proof.at[:10]} at {proof.at[11:16]} UTC:", style="bold red")
        yield from (Text(f"  {line}", style="red") for line in proof.failures)


def _proof_json(proof: Record | None) -> dict[str, object] | None:
    if proof is None:
        return None
    return {
        "at": proof.at,
        "verdict": proof.verdict.value,
        "proved": proof.is_proved,
        "took_s": proof.took_s,
        "failures": list(proof.failures),
    }


def _process_json(process: ProcessStatus) -> dict[str, object]:
    did = asdict(process.activity)
    rates = {
        "engine_cache": process.activity.engine_cache,
        "lmcache": process.activity.lmcache,
    }
    for name, hits in rates.items():
        if hits is not None:
            did[name] = {"found": hits.found, "asked": hits.asked, "rate": hits.rate}
    return {
        "name": process.name,
        "kind": process.kind,
        "state": process.state,
        "ready": process.is_ready,
        "pid": process.pid,
        "uptime_s": None if process.uptime_s is None else round(process.uptime_s, 1),
        "restarts": process.restarts,
        **did,
    }


def _row(process: ProcessStatus) -> tuple[RenderableType, ...]:
    did = process.activity
    return (
        Text(process.name, "bold"),
        _state(process),
        "" if process.uptime_s is None else _span(process.uptime_s),
        "-" if process.restarts is None else str(process.restarts),
        "-" if did.requests is None else f"{did.requests:.0f}",
        _hits(did.engine_cache),
        _hits(did.lmcache),
        "\n".join(map(_fill, did.fills)) or "-",
        _moved(did.nixl),
    )


def _state(process: ProcessStatus) -> Text:
    """Say that a process is ready, or else what its manager says of it too."""
    if process.is_ready:
        return Text("ready", "green")
    return Text.assemble(("not ready", "bold red"), f" ({process.state})")


def _hits(hits: Hits | None) -> str:
    if hits is None:
        return "-"
    return f"{hits.asked:.0f}" if hits.rate is None else f"{hits.rate:.0%} of {hits.asked:.0f}"


def _fill(fill: Fill) -> str:
    if fill.used_bytes is not None and fill.total_bytes:
        return f"{fill.tier} {fill.used_bytes / GIB:.1f} of {fill.total_bytes / GIB:.1f} GiB"
    if fill.used_bytes is not None:
        return f"{fill.tier} {_size(fill.used_bytes)}"
    return f"{fill.tier} {fill.share:.0%}" if fill.share is not None else f"{fill.tier} ?"


def _moved(moved: Moved | None) -> RenderableType:
    if moved is None:
        return "-"
    text = Text(f"{moved.total_bytes / 1e6:.1f} MB")
    if moved.seconds:
        text.append(f"\n{moved.total_bytes / moved.seconds / 1e9:.2f} GB/s")
    if moved.failures:
        text.append(f"\n{moved.failures:.0f} failed", "bold red")
    return text


def _size(amount: int) -> str:
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount / 2**20:.1f} MiB"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"
