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


def profile_schema() -> dict[str, Any]:
    """Read the profile's JSON Schema."""
    return schema("profile.schema.json")


@lru_cache(maxsize=4)
def schema(name: str) -> dict[str, Any]:
    """Read a JSON Schema by the name of its file."""
    found: dict[str, Any] = json.loads(data_text(name))
    return found


def data_text(name: str) -> str:
    """Read a file of schemas/."""
    return (root() / "schemas" / name).read_text(encoding="utf-8")


def stack_names() -> list[str]:
    """List the stacks that ship with the program."""
    return sorted(path.stem for path in (root() / "schemas" / "stacks").glob("*.yaml"))


def stack_text(name: str) -> str:
    """Read a stack's own file."""
    return data_text(f"stacks/{name}.yaml")


def catalogue_names(stack: str) -> list[str]:
    """List the catalogues of a stack; none where it has no folder."""
    return sorted(path.stem for path in (root() / "schemas" / "stacks" / stack).glob("*.json"))


def catalogue_text(stack: str, catalogue: str) -> str:
    """Read one of a stack's catalogues as JSON text."""
    return data_text(f"stacks/{stack}/{catalogue}.json")


def lock_text(stack: str, accelerator: str, machine: str) -> str:
    """Read a stack's lock for an accelerator and a machine; empty where it has none."""
    file = root() / "schemas" / "stacks" / stack / f"{accelerator}-{machine}.lock.txt"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def tier_names() -> list[str]:
    """List the files of tiers, one for each LMCache release that was looked at."""
    return sorted(path.stem for path in (root() / "schemas" / "tiers").glob("*.yaml"))


def tiers_text(name: str) -> str:
    """Read the storage tiers of one LMCache release."""
    return data_text(f"tiers/{name}.yaml")


def template_text(name: str) -> str:
    """Read a template or a static file that goes into every bundle."""
    return (root() / "templates" / name).read_text(encoding="utf-8")


def models_text() -> str:
    """Read what is known of widely served models."""
    return data_text("models.json")


def architectures_text() -> str:
    """Read which releases of vLLM have which architectures of models."""
    return data_text("architectures.json")
