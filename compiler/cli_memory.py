"""Find a model's dimensions and print what the caches of a compiled profile hold."""

from __future__ import annotations

import json
from pathlib import Path

import click

from compiler import data
from compiler.document import Json
from compiler.kv_shape import Unknown, kv_shape
from compiler.pipeline import Compiled
from compiler.plan import Kind, Plan
from compiler.report.memory import memory_text
from compiler.source import parse_data


def explain(compiled: Compiled) -> None:
    """Print the table of one profile, or why there is none; a profile with errors has none."""
    if compiled.resolved is None:
        return
    plan = compiled.resolved.plan
    try:
        click.echo(memory_text(plan, kv_shape(_config(plan.model)), _max_len(plan)), nl=False)
    except Unknown as reason:
        click.echo(f"{plan.name}: nothing to say about the memory of {plan.model}: {reason}")


def _config(model: str) -> dict[str, Json]:
    """Read the config.json of a local folder, or a line of schemas/models.yaml.

    Errors: Unknown where there is neither.
    """
    if not model.startswith("/"):
        known: dict[str, dict[str, Json]] = parse_data(data.models_text())
        if model not in known:
            raise Unknown("schemas/models.yaml does not have it; a local folder is read itself")
        return known[model]
    try:
        found = json.loads((Path(model) / "config.json").read_text("utf-8"))
    except OSError as error:
        raise Unknown(f"its config.json cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise Unknown("its config.json is not JSON") from error
    if not isinstance(found, dict):
        raise Unknown("its config.json is not a mapping")
    return found


def _max_len(plan: Plan) -> int | None:
    workers = (process for process in plan.processes if process.kind is Kind.WORKER)
    given = next(workers).engine_args.get("max_model_len")
    return given if isinstance(given, int) else None
