"""Write docs/side-by-side.md: one profile on several stacks, read from the plans it compiles to.

python tools/side_by_side.py > docs/side-by-side.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.library import library  # noqa: E402
from compiler.pipeline import compile_profile  # noqa: E402
from compiler.plan import Plan  # noqa: E402
from compiler.process import Kind, Process  # noqa: E402 -- the checkout, wherever this is run from

PROFILE = "profiles/disagg.yaml"
STACKS = {
    "dynamo-0.7": "in_process",
    "dynamo-1.0": "in_process",
    "dynamo-1.6": "multiprocess",
    "vllm-0.32": "multiprocess",
}
"""Each with the mode of LMCache that it has rightly."""
HEADER = """\
# One profile, four stacks

`profiles/disagg.yaml`, compiled for four stacks: with `lmcache.mode=in_process` for the two that
have no other, else with its cache server. Generated from the plans; a test checks it against them.
To make it again:

    python tools/side_by_side.py > docs/side-by-side.md

Every worker also has `--model Qwen/Qwen3-0.6B` (vLLM: `serve Qwen/Qwen3-0.6B`). A variable that all
four have with the same value is left out.
"""


def plans() -> list[Plan]:
    """Compile the profile for each stack."""
    found = []
    for stack, mode in STACKS.items():
        overrides = (f"lmcache.mode={mode}", f"stack={stack}")
        compiled = compile_profile(
            PROFILE, lambda name: (ROOT / name).read_text("utf-8"), overrides, library()
        )
        if compiled.resolved is None:
            raise SystemExit(f"{PROFILE} does not compile for {stack}: {compiled.diagnostics}")
        found.append(compiled.resolved.plan)
    return found


def process_of(plan: Plan, kind: Kind, name: str = "") -> Process:
    """Return a plan's process of a kind, by the start of its name."""
    return next(item for item in plan.processes if item.kind is kind and item.name.startswith(name))


def command(process: Process) -> str:
    """Write what follows `python` in an argv, without what every worker has."""
    words = list(process.argv[1:])
    for taken in (["--model", "Qwen/Qwen3-0.6B"], ["Qwen/Qwen3-0.6B"]):
        if taken[0] in words:
            start = words.index(taken[0])
            del words[start : start + len(taken)]
    return code([" ".join(words)])


def code(items: Iterable[str]) -> str:
    """Write items as code, one below another in a table's cell."""
    return "<br>".join(f"`{item}`" for item in items) or "-"


def own_env(process: Process, others: list[Process]) -> str:
    """Write the variables that not every stack's process has with this value."""

    def is_common(name: str) -> bool:
        return len({other.env.get(name) for other in others}) == 1

    shown = {name: value for name, value in process.env.items() if not is_common(name)}
    return code(f"{name}={value}" for name, value in shown.items() if name != "PATH")


def engine_file(process: Process) -> str:
    """Write the engine file's options, without the connectors."""
    return code(
        f"{name}: {json.dumps(value)}" for name, value in process.launch.engine_args.items()
    )


def connectors(process: Process) -> str:
    """Write a worker's connectors: the wrapper, what is inside in order, and where it says so."""
    config = process.launch.kv_transfer_config
    names = [item.name for item in process.launch.connectors]
    wrapper = f"{config['kv_connector']}: " if len(names) > 1 else ""
    return f"{wrapper}{', '.join(names)} ({process.launch.kv_source.value.replace('_', ' ')})"


def lmcache_settings(process: Process) -> str:
    """Write where the in-process cache's settings stand."""
    if process.launch.lmcache_config:
        items: Mapping[str, object] = process.launch.lmcache_config
        return code(f"{name}: {json.dumps(value)}" for name, value in items.items())
    names = [name for name in process.env if name.startswith("LMCACHE_") and name.isupper()]
    own = ("LMCACHE_CHUNK_SIZE", "LMCACHE_LOCAL_CPU", "LMCACHE_MAX_LOCAL_CPU_SIZE")
    return code(f"{name}={process.env[name]}" for name in names if name in own)


def ready(process: Process) -> str:
    """Write what makes a process ready."""
    verb = "POST" if process.ready.body else "GET"
    return code([f"{verb} {process.ready.path}"])


def rows(found: list[Plan]) -> list[tuple[str, list[str]]]:
    """Return the table's rows."""
    table = [
        ("starts", [", ".join(item.name for item in plan.processes) for plan in found]),
        (
            "must run already",
            [", ".join(item.purpose for item in plan.services) or "nothing" for plan in found],
        ),
    ]
    for role in ("decode", "prefill"):
        workers = [process_of(plan, Kind.WORKER, role) for plan in found]
        table += [
            (f"{role} command", [command(item) for item in workers]),
            (f"{role} connectors", [connectors(item) for item in workers]),
            (f"{role} engine file", [engine_file(item) for item in workers]),
            (f"{role} environment", [own_env(item, workers) for item in workers]),
            (f"{role} LMCache", [lmcache_settings(item) for item in workers]),
            (f"{role} ready", [ready(item) for item in workers]),
            (f"{role} stops within", [f"{item.stop_s} s" for item in workers]),
        ]
    fronts = [process_of(plan, Kind.FRONTEND) for plan in found]
    table += [
        ("frontend command", [command(item) for item in fronts]),
        ("frontend environment", [own_env(item, fronts) for item in fronts]),
        ("frontend ready", [ready(item) for item in fronts]),
    ]
    return table


def page() -> str:
    """Return the whole page."""
    lines = [f"| | {' | '.join(STACKS)} |", f"|---|{'---|' * len(STACKS)}"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows(plans())]
    return HEADER + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
