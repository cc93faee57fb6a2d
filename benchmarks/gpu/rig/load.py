"""Time to first token, one at a time and under load, and how fast tokens follow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gpu.rig.prompts import text
from demo.client import Answer, ask

CONCURRENT = 64
PREFIXES, PREFIX_TOKENS, OWN_TOKENS, ROUNDS = 24, 4096, 128, 8
"""24 prefixes of 4,096 tokens: 14.2 GB of KV at 144 KiB a token, beyond an engine's 8 GB here."""
Served = tuple[str, str]
"""The API's URL and the model's name."""


def first_tokens(
    served: Mapping[str, Served], lengths: Sequence[int], repeats: int
) -> dict[str, Any]:
    """Return seconds to the first token, cold and warm, the deployments in turn for each prompt."""
    for length in lengths:  # kernels are tuned and compiled at their first use
        for name in served:
            for number in range(2):
                one(served[name], text(length, f"warm-up-{name}-{number}"))
    found: dict[str, Any] = {name: {} for name in served}
    for length in lengths:
        prompts = [text(length, f"timed-{length}-{number}") for number in range(repeats)]
        for kind in ("cold", "warm"):
            for prompt in prompts:
                for name in served:
                    answer = one(served[name], prompt)
                    seconds = round(answer.first_token_s, 4)
                    found[name].setdefault(str(length), {}).setdefault(kind, []).append(seconds)
            time.sleep(0.5)  # storing goes on after the answer
    for name, by_length in found.items():
        middle = {
            length: {kind: statistics.median(values) for kind, values in kinds.items()}
            for length, kinds in by_length.items()
        }
        print(f"  {name}: first token, median {middle}", flush=True)
    return found


def one(served: Served, prompt: str, tokens: int = 2) -> Answer:
    """Ask for some tokens, whatever they are."""
    return ask(*served, prompt, tokens, ignore_eos=True)


def working_set(served: Served, name: str, tag: str) -> dict[str, Any]:
    """Ask for prefixes in turn, 64 at once; give requests a second and time to first token.

    Every prefix comes back after all others: what does not fit is gone by then. The first round,
    cold for everyone, is not counted.
    """
    prefixes = [text(PREFIX_TOKENS, f"{tag}-prefix-{number}") for number in range(PREFIXES)]
    prompts = [
        prefix + text(OWN_TOKENS, f"{tag}-own-{turn}-{number}")
        for turn in range(ROUNDS)
        for number, prefix in enumerate(prefixes)
    ]
    at_once(served, prompts[:PREFIXES])
    found = at_once(served, prompts[PREFIXES:])
    print(f"  {name}: working set {found}", flush=True)
    return found


def shared_prefix(served: Served, name: str) -> dict[str, Any]:
    """Ask 64 at once behind one prefix of 8,000 tokens, each with 128 tokens of its own."""
    prefix = text(8000, f"shared-{name}")
    prompts = [prefix + text(OWN_TOKENS, f"shared-own-{number}") for number in range(CONCURRENT)]
    one(served, prefix)
    found = at_once(served, prompts)
    print(f"  {name}: 64 behind one prefix {found}", flush=True)
    return found


def at_once(served: Served, prompts: Sequence[str], concurrent: int = CONCURRENT) -> dict[str, Any]:
    """Ask for 32 tokens to each, 64 at once; give requests a second and time to first token."""
    with ThreadPoolExecutor(concurrent) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda prompt: one(served, prompt, 32), prompts))
        took = time.monotonic() - began
    firsts = sorted(answer.first_token_s for answer in answers)
    return {
        "requests": len(answers),
        "requests_per_s": round(len(answers) / took, 3),
        "first_token_p50_s": round(statistics.median(firsts), 3),
        "first_token_p99_s": round(firsts[int(len(firsts) * 0.99)], 3),
        "took_s": round(took, 2),
    }


def following(served: Served, name: str) -> dict[str, Any]:
    """Return how fast tokens follow the first: one request alone, and 32 at once."""
    one(served, text(64, "following-warm-up"), 32)
    alone = [one(served, text(64, f"alone-{number}"), 256) for number in range(2)]
    with ThreadPoolExecutor(32) as pool:
        began = time.monotonic()
        many = list(
            pool.map(lambda number: one(served, text(64, f"many-{number}"), 256), range(32))
        )
        took = time.monotonic() - began
    each = [(item.total_s - item.first_token_s) / (item.output_tokens - 1) for item in alone]
    found = {
        "one_ms_per_token": round(1000 * min(each), 3),
        "32_tokens_per_s": round(sum(item.output_tokens for item in many) / took, 1),
    }
    print(f"  {name}: following tokens {found}", flush=True)
    return found
