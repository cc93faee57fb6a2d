"""Hand the pure stages what ships with the program."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path

from compiler import shipped_files
from compiler.document import Json
from compiler.load.yaml_tree import parse_data
from compiler.model.config import ModelConfig, model_config
from compiler.model.kv_shape import KvShape, Unknown, kv_shape
from compiler.pipeline import Library
from compiler.plan import Plan
from compiler.stacks.stack import Stack, parse_stack
from compiler.stacks.tier_specs import TierSpecs, specs_in


@lru_cache(maxsize=8)
def load_stack(name: str) -> Stack:
    """Read a shipped stack."""
    return parse_stack(
        shipped_files.stack_text(name),
        partial(shipped_files.catalogue_text, name),
        shipped_files.relations_text,
        shipped_files.tiers_text,
    )


def known_stack(name: str) -> Stack | None:
    """Read the stack of a plan; None where it is not of this release."""
    return load_stack(name) if name in shipped_files.stack_names() else None


def tier_specs(plan: Plan) -> TierSpecs:
    """Read what a plan's stack says of its tiers; nothing where it is not of this release."""
    stack = known_stack(plan.stack)
    return specs_in(stack.tier_kinds, plan.lmcache.mode.value) if stack else {}


def load_model(model: str) -> ModelConfig:
    """Read what rules depend on of a model.

    Errors: Unknown where neither its folder nor schemas/models.yaml says it.
    """
    return model_config(_config(model))


def load_shape(model: str) -> KvShape:
    """Read the size of a model's KV.

    Errors: Unknown where it cannot be told; the text says why.
    """
    return kv_shape(_config(model))


def _config(model: str) -> dict[str, Json]:
    """Read the config.json of a local folder, or an entry of schemas/models.yaml."""
    if not model.startswith("/"):
        text = shipped_files.models_text()
        if f"\n{model}:" not in text:  # most models: no need to read it all
            raise Unknown("schemas/models.yaml does not have it; a local folder is read itself")
        known: dict[str, dict[str, Json]] = parse_data(text)
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


def library() -> Library:
    """Return the schema and the stacks."""
    return Library(
        schema=shipped_files.profile_schema(),
        stack_names=tuple(shipped_files.stack_names()),
        load_stack=load_stack,
        load_model=load_model,
    )


def templates() -> dict[str, str]:
    """Read every template of a bundle."""
    from compiler.emit.bundle import TEMPLATES  # noqa: PLC0415 -- Jinja2 is not for `dync check`

    return {name: shipped_files.template_text(name) for name in TEMPLATES}
