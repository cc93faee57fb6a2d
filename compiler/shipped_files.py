"""Find and read the program's own data files: schemas, stacks, templates."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent


@lru_cache(maxsize=1)
def root() -> Path:
    """Return the folder of schemas/ and templates/: beside the code, or the checkout."""
    bundled = _PACKAGE / "_bundled"
    return bundled if bundled.is_dir() else _PACKAGE.parent


@lru_cache(maxsize=1)
def profile_schema() -> dict[str, Any]:
    """Read the profile's JSON Schema."""
    text = (root() / "schemas" / "profile.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def stack_names() -> list[str]:
    """List the stacks that ship with the program."""
    return sorted(path.stem for path in (root() / "schemas" / "stacks").glob("*.yaml"))


def stack_text(name: str) -> str:
    """Read a stack's own file."""
    return (root() / "schemas" / "stacks" / f"{name}.yaml").read_text(encoding="utf-8")


def catalogue_text(stack: str, catalogue: str) -> str:
    """Read one of a stack's catalogues as JSON text."""
    path = root() / "schemas" / "stacks" / stack / f"{catalogue}.json"
    return path.read_text(encoding="utf-8")


def tiers_text(name: str) -> str:
    """Read the storage tiers of one LMCache release."""
    return (root() / "schemas" / "tiers" / f"{name}.yaml").read_text(encoding="utf-8")


def template_text(name: str) -> str:
    """Read a template or a static file that goes into every bundle."""
    return (root() / "templates" / name).read_text(encoding="utf-8")


def models_text() -> str:
    """Read the dimensions of widely served models."""
    return (root() / "schemas" / "models.yaml").read_text(encoding="utf-8")


def relations_text() -> str:
    """Read what releases of vLLM ask of options together."""
    return (root() / "schemas" / "engine_relations.yaml").read_text(encoding="utf-8")
