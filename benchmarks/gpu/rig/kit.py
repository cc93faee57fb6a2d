"""What `prepare` wrote for the rig: where the engines, models and bundles are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KIT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """One prepared folder; worker_argv holds `{model}`, chunk_size is in tokens.

    page_python: of the stack that runs what the reference page's scripts start. spare_port: for an
    engine of a suite's own. likeliest: how the deployments are asked for their likeliest first
    tokens. proved: the bundles that are launched to show that they cache rightly, those of the
    suite beat-right, and those for four GPUs; refused: those that the stack refuses, to show that
    they do not. kinds: those of other models than plain attention, which lie in kinds_folder;
    tcp: those that tell UCX what to read over.
    tiers: those with a storage tier, one each. faults: what dync verify must say of each bundle
    with a fault, as a regular expression.
    """

    stack: str
    accelerator: str
    python: str
    page_python: str
    worker_argv: tuple[str, ...]
    likeliest: Mapping[str, Any]
    cache_server_argv: tuple[str, ...]
    env: Mapping[str, str]
    models: Mapping[str, str]
    chunk_size: int
    spare_port: int
    proved: tuple[str, ...]
    proved_beat: tuple[str, ...]
    proved_on_four: tuple[str, ...]
    refused: tuple[str, ...]
    kinds: tuple[str, ...]
    kinds_folder: str
    tcp: tuple[str, ...]
    tiers: tuple[str, ...]
    faults: Mapping[str, str]

    @staticmethod
    def read() -> Kit:
        """Read kit.json of the folder that this module was copied to."""
        data = json.loads((KIT / "kit.json").read_text(encoding="utf-8"))
        names = [name for name, value in data.items() if isinstance(value, list)]
        return Kit(**{**data, **{name: tuple(data[name]) for name in names}})

    @property
    def on_gpu(self) -> bool:
        """Return whether the engines compute on a GPU."""
        return self.accelerator == "cuda"
