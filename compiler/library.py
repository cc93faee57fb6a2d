"""Hand the pure stages what ships with the program, and what is known of models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from compiler import shipped_files
from compiler.document import Json
from compiler.load.yaml_tree import parse_data
from compiler.model.config import ModelConfig, model_config
from compiler.model.kv_shape import KvShape, Unknown, kv_shape
from compiler.stacks.stack import Stack, parse_stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What the program brings along: the profile's schema, its stacks, and what it knows of models.

    load_model: by id or local folder; None where there is no config.json to read.
    """

    schema: Mapping[str, Any]
    stack_names: tuple[str, ...]
    load_stack: Callable[[str], Stack]
    load_model: Callable[[str], ModelConfig | None]

    def stacks(self) -> Iterator[Stack]:
        """Return every stack, by name."""
        return map(self.load_stack, self.stack_names)


def library() -> Library:
    """Return the schema, the stacks and the models that ship with the program."""
    return Library(
        schema=shipped_files.profile_schema(),
        stack_names=tuple(shipped_files.stack_names()),
        load_stack=load_stack,
        load_model=load_model,
    )


@lru_cache(maxsize=8)
def load_stack(name: str) -> Stack:
    """Read a shipped stack."""
    return parse_stack(
        shipped_files.stack_text(name),
        partial(shipped_files.catalogue_text, name),
        shipped_files.relations_text,
        shipped_files.tiers_text,
    )


def load_model(model: str) -> ModelConfig | None:
    """Read what rules depend on of a model; None where nothing says it."""
    try:
        return model_config(_config(model))
    except Unknown:
        return None


def load_shape(model: str) -> KvShape:
    """Read the size of a model's KV.

    Errors: Unknown where it cannot be told; the text says why.
    """
    return kv_shape(_config(model))


def _config(model: str) -> dict[str, Json]:
    """Read the config.json of a local folder, or an entry of schemas/models.yaml.

    Errors: Unknown where neither has it.
    """
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


def templates() -> dict[str, str]:
    """Read every template of a bundle."""
    from compiler.emit.bundle import TEMPLATES  # noqa: PLC0415 -- Jinja2 is not for `dync check`

    return {name: shipped_files.template_text(name) for name in TEMPLATES}
