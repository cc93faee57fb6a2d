"""Find a model's dimensions and files, and print what a compiled profile needs of memory."""

from __future__ import annotations

from pathlib import Path

import click

from compiler.library import load_shape, load_stack
from compiler.model.kv_shape import Unknown
from compiler.pipeline import Compiled
from compiler.plan import Plan
from compiler.report.memory import memory_text


def print_memory(compiled: Compiled) -> None:
    """Print the tables of one profile, or why there are none; a profile with errors has none."""
    if compiled.resolved is None:
        return
    plan = compiled.resolved.plan
    block_size = load_stack(plan.stack).platforms[plan.accelerator.value].block_size
    try:
        text = memory_text(
            plan, load_shape(plan.model), _max_len(plan), _weights_bytes(plan.model), block_size
        )
        click.echo(text, nl=False)
    except Unknown as reason:
        click.echo(f"{plan.name}: nothing to say about the memory of {plan.model}: {reason}")


def _weights_bytes(model: str) -> int | None:
    """Add up the weights in a local folder."""
    files = [path.stat().st_size for path in Path(model).glob("*.safetensors")]
    return sum(files) if model.startswith("/") and files else None


def _max_len(plan: Plan) -> int | None:
    given = plan.workers[0].launch.engine_args.get("max_model_len")
    return given if isinstance(given, int) else None
