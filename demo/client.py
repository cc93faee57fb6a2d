"""Ask a running deployment, and read its metrics; standard library only."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

from compiler.deploy.probe.completion import likeliest_first

Prompt = str | list[int]


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion: seconds to the first and last token, tokens in, cached and out, text."""

    first_token_s: float
    prompt_tokens: int
    cached_tokens: int
    text: str
    total_s: float
    output_tokens: int


def ask(
    url: str,
    model: str,
    prompt: Prompt,
    max_tokens: int = 24,
    timeout_s: float = 300,
    **more: object,
) -> Answer:
    """Send one streamed completion to an OpenAI API, greedy; `more` goes into the request."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }
    begun, first_token_s, text = time.monotonic(), 0.0, ""
    usage: dict[str, Any] = {}
    with _post(f"{url}/completions", body, timeout_s) as response:
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            first_token_s = first_token_s or time.monotonic() - begun
            usage = event.get("usage") or usage
            text += "".join(choice.get("text") or "" for choice in event.get("choices", ()))
    details = usage.get("prompt_tokens_details") or {}
    return Answer(
        first_token_s,
        usage.get("prompt_tokens", 0),
        details.get("cached_tokens") or 0,
        text,
        time.monotonic() - begun,
        usage.get("completion_tokens", 0),
    )


def first_logprobs(
    url: str,
    model: str,
    prompt: Prompt,
    timeout_s: float = 300,
    **more: object,
) -> dict[str, float]:
    """Return the likeliest first tokens, five by default, with their log-probabilities."""
    body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5}
    with _post(f"{url}/completions", {**body, **more}, timeout_s) as response:
        answer = json.load(response)
    return likeliest_first(answer["choices"][0])


def metric(url: str, name: str) -> float:
    """Sum a Prometheus metric over its labels; 0 where it does not occur."""
    with urllib.request.urlopen(url, timeout=30) as response:
        text = response.read().decode()
    lines = re.findall(rf"^{re.escape(name)}(?:{{[^\n]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, lines))


def long_prompt(tag: str, sentences: int) -> str:
    """Make a text that no other tag shares a prefix with; about 20 tokens a sentence."""
    facts = (
        f"Note {tag}-{number}: the keeper of house {number} counted {number * 7 % 97} grey stones."
        for number in range(sentences)
    )
    return f"[{tag}] " + " ".join(facts) + " In one sentence, the keeper"


def _post(url: str, body: dict[str, Any], timeout_s: float) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=timeout_s)
