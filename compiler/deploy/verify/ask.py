"""Send one prompt and measure: time to the first token, and how likely the engine finds it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.deploy.probe.completion import likeliest_first
from compiler.deploy.probe.http_client import NO_ANSWER, Access, posted, said

LIKELIEST = 5


class NotAnswered(Exception):
    """A prompt that had no answer; the text says what the server said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What answers completions: its name, its base URL, with /v1, the file of its certificate."""

    name: str
    url: str
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One completion of one token; logprobs: the likeliest first tokens, natural logarithms."""

    first_token_s: float
    logprobs: Mapping[str, float]


def ask(
    way: Endpoint, model: str, prompt: Sequence[int] | str, access: Access, timeout_s: float
) -> Answer:
    """Ask an OpenAI API for one token, greedily, streamed.

    Errors: NotAnswered.
    """
    body = {
        "model": model,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": LIKELIEST,
        "stream": True,
    }
    begun, first_token_s = time.monotonic(), 0.0
    logprobs: dict[str, float] = {}
    try:
        with posted(f"{way.url}/completions", body, access, timeout_s, way.certificate) as lines:
            for line in lines:
                choice = _choice(line)
                if choice is not None:
                    first_token_s = first_token_s or time.monotonic() - begun
                    logprobs = likeliest_first(choice) or logprobs
    except NO_ANSWER as error:
        raise NotAnswered(said(error)) from error
    if not first_token_s:
        raise NotAnswered("the answer has no token")
    return Answer(first_token_s=first_token_s, logprobs=logprobs)


def _choice(line: bytes) -> dict[str, Any] | None:
    """Return the choice of one server-sent event.

    Errors: NotAnswered where the event is an error: a stream has begun with 200 then.
    """
    if not line.startswith(b"data: {"):
        return None
    event = json.loads(line[6:])
    if "error" in event:
        raise NotAnswered(json.dumps(event["error"])[:300])
    choices = event.get("choices") or []
    return choices[0] if choices else None
