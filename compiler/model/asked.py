"""Tell which config.json a profile's workers read, and how their options change it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from compiler.document import Json

_OPTIONS: Mapping[str, Json] = {
    "hf_config_path": None,
    "revision": "main",
    "config_format": "auto",
    "hf_overrides": {},
}
"""What makes the model another one than its id says, and what each is by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedModel:
    """One model: where its config.json is, and what hf_overrides changes in it.

    place: a Hugging Face id, or a folder. unread: why no config.json says what the engines serve;
    empty where one does.
    """

    place: str
    revision: str
    overrides: Mapping[str, Json]
    unread: str = ""


def asked_model(model: str, workers: Iterable[Mapping[str, Json]]) -> AskedModel:
    """Return the model that all workers serve, by the id that the profile has and their options."""
    first, *others = [
        {name: args.get(name) or default for name, default in _OPTIONS.items()} for args in workers
    ]
    differing = [name for name in _OPTIONS for other in others if other[name] != first[name]]
    overrides, form = _mapping(first["hf_overrides"]), str(first["config_format"])
    unread = ""
    if differing:
        unread = f"its workers have different {differing[0]}"
    elif form not in {"auto", "hf"}:
        unread = f"a configuration of config_format {form} is not read"
    elif overrides is None:
        unread = "its hf_overrides are no mapping"
    return AskedModel(
        place=str(first["hf_config_path"] or model),
        revision=str(first["revision"]),
        overrides=overrides or {},
        unread=unread,
    )


def _mapping(given: Json) -> dict[str, Json] | None:
    """Return a mapping, also where it is written as JSON; None for anything else."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return None
    return dict(given) if isinstance(given, dict) else None
