"""Find a model's dimensions and files, and print what a compiled profile needs of memory."""

from __future__ import annotations

import os
from pathlib import Path

from compiler.cli.echo import echo
from compiler.cli.profiles import hub_caches
from compiler.library import load_shape, load_stack, model_folder
from compiler.model.asked import asked_model
from compiler.model.layers import Unknown
from compiler.pipeline import Compiled
from compiler.plan import Plan
from compiler.report.memory import memory_text


def print_memory(compiled: Compiled) -> None:
    """Print the tables of one profile, or why there are none; a profile with errors has none."""
    if compiled.resolved is None:
        return
    plan = compiled.resolved.plan
    platform = load_stack(plan.stack).platforms[plan.accelerator.value]
    asked = asked_model(plan.model, [worker.launch.engine_args for worker in plan.workers])
    caches = hub_caches(os.environ)
    try:
        shape, weights = load_shape(asked, caches), _weights_bytes(model_folder(asked, caches))
        text = memory_text(plan, shape, _max_len(plan), weights, platform)
        echo(text, nl=False)
    except Unknown as reason:
        echo(f"{plan.name}: nothing to say about the memory of {plan.model}: {reason}")


def _weights_bytes(folder: Path | None) -> int | None:
    """Add up the weights in a model's folder."""
    files = folder.glob("*.safetensors") if folder else ()
    return sum(os.path.getsize(path) for path in files if path.is_file()) or None


def _max_len(plan: Plan) -> int | None:
    given = plan.workers[0].launch.engine_args.get("max_model_len")
    return given if isinstance(given, int) else None
