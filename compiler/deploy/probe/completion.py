"""Read one choice of a completion, as vLLM's servers and as Dynamo's frontend write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def likeliest_first(choice: Mapping[str, Any]) -> dict[str, float]:
    """Return the likeliest first tokens by their text, natural logarithms; empty where not told.

    vLLM maps texts to log-probabilities. Dynamo 1.3's frontend lists tokens, with the one that was
    chosen last if it is none of them (its lib/llm/src/protocols/openai/completions/delta.rs,
    create_logprobs; seen when it was run). Of tokens with one text the likeliest counts.
    """
    top = (choice.get("logprobs") or {}).get("top_logprobs") or []
    first = top[0] if top else None
    if not isinstance(first, list):
        return dict(first or {})
    found: dict[str, float] = {}
    for item in first:
        found.setdefault(item["token"], item["logprob"])
    return found
