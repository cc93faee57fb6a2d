"""The model is a Hugging Face id or an absolute path.

A relative folder would mean another place for whoever builds, launches or runs it by systemd.

Accepted:
    name: local
    stack: vllm-0.32
    topology: agg
    model: {id: /srv/models/qwen3}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: local
    stack: vllm-0.32
    topology: agg
    model: {id: ./models/qwen3}
    workers: [{role: aggregated, gpus: [0]}]

Source: huggingface_hub utils/_validators.py, validate_repo_id; a bundle holds no build path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.topology import Topology

RULE = Rule(
    "model-id",
    Severity.ERROR,
    "a relative folder would mean another place for whoever launches the bundle",
)
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)?\Z")


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report an id that is neither."""
    text = topology.model.id
    if not text.startswith("/") and not _REPOSITORY.match(text):
        yield RULE.at(
            topology.model.origin.of("id"),
            f"model id {text!r} is neither a Hugging Face id nor an absolute path",
            fix="write an id such as Qwen/Qwen3-0.6B, or the folder's absolute path",
        )
