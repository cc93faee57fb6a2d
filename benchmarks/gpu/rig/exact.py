"""Whether a cache hit gives what computing gives, at every prompt length.

A prompt is sent cold and warm, engine prefix caching off, and the log-probabilities of the first
token are compared over the tokens that both sides list. What no cache gives is the noise floor.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import lines
from benchmarks.gpu.rig.engine import Line, Running, running
from benchmarks.gpu.rig.kit import Kit
from benchmarks.gpu.rig.prompts import unique
from demo.client import Prompt, ask, first_logprobs, metric

WRONG = 0.25
"""A difference of log-probabilities above which an answer is wrong: 4 times the noise seen."""
BY_ID: Mapping[str, Any] = {"logprobs": 20, "return_tokens_as_token_ids": True}
"""How an engine is asked for its likeliest first tokens."""
HITS = "vllm:external_prefix_cache_hits_total"


@dataclass(frozen=True, slots=True)
class Compared:
    """One prompt cold and warm: hit tokens, largest difference, whether the likeliest changed."""

    length: int
    hits: int
    difference: float
    flipped: bool


def logprobs_of(engine: Running, prompt: Prompt) -> dict[str, float]:
    """Ask an engine of a hand-made line."""
    return first_logprobs(f"{engine.line.url}/v1", "m", prompt, **BY_ID)


def compare(length: int, hits: int, cold: dict[str, float], warm: dict[str, float]) -> Compared:
    """Check two lists of log-probabilities against each other."""
    both = cold.keys() & warm.keys()
    difference = max((abs(cold[token] - warm[token]) for token in both), default=99.0)
    flipped = max(cold, key=cold.__getitem__) != max(warm, key=warm.__getitem__)
    return Compared(length, hits, round(difference, 4), flipped)


def sweep(engine: Running, lengths: Sequence[int], tag: str) -> list[Compared]:
    """Send every length cold, then every length warm."""
    prompts = {length: unique(length, f"{tag}-{length}") for length in lengths}
    cold = {length: logprobs_of(engine, prompt) for length, prompt in prompts.items()}
    found = []
    seen = metric(f"{engine.line.url}/metrics", HITS)
    for length, prompt in prompts.items():
        warm = logprobs_of(engine, prompt)
        now = metric(f"{engine.line.url}/metrics", HITS)
        found.append(compare(length, int(now - seen), cold[length], warm))
        seen = now
    return found


@contextmanager
def decoding(engine: Running, requests: int) -> Iterator[None]:
    """Keep some long generations going, so that a prompt's last token joins a decode batch."""
    stop = threading.Event()

    def generate(number: int) -> None:
        turn = 0
        while not stop.is_set():
            prompt = unique(20, f"decoding-{number}-{turn}")
            ask(f"{engine.line.url}/v1", "m", prompt, 200, ignore_eos=True)
            turn += 1

    with ThreadPoolExecutor(requests) as pool:
        for number in range(requests):
            pool.submit(generate, number)
        try:
            yield
        finally:
            stop.set()


def edges(chunk: int) -> list[int]:
    """Return the lengths around one, two and three chunks, and some between."""
    around = [count * chunk + offset for count in (1, 2, 3) for offset in (-1, 0, 1, 2, 3, 16, 17)]
    return sorted({*around, chunk * 3 // 2, chunk * 5 // 2})


def variants(kit: Kit) -> tuple[list[Line], list[Line]]:
    """Return the cache servers and the engines that are compared with each other."""
    env = lines.in_process_env(kit, 2)
    servers = [
        lines.cache_server(kit, "server-agg", 15001, 15101, 2),
        lines.cache_server(kit, "server-nixl-first", 15002, 15102, 2),
        lines.cache_server(kit, "server-nixl-last", 15003, 15103, 2),
    ]
    steps = ("--max-num-batched-tokens", "1024")
    no_apc = ("--no-enable-prefix-caching",)
    off_hybrid = ("--disable-hybrid-kv-cache-manager",)
    engines = [
        lines.worker(kit, "plain", 15200, *no_apc),
        lines.worker(kit, "in-process", 15201, *no_apc, connector=lines.IN_PROCESS, env=env),
        lines.worker(
            kit,
            "in-process-old-runner",
            15202,
            *no_apc,
            connector=lines.IN_PROCESS,
            env={**env, **lines.OLD_RUNNER},
        ),
        lines.worker(
            kit,
            "in-process-piecewise",
            15203,
            *no_apc,
            *lines.PIECEWISE,
            connector=lines.IN_PROCESS,
            env=env,
        ),
        lines.worker(kit, "multiprocess", 15204, *no_apc, connector=lines.multiprocess(15001)),
        *(
            lines.worker(
                kit,
                name,
                port,
                *no_apc,
                *steps,
                connector=lines.several(*children),
                env=_side_channel(port),
            )
            for name, port, children in (
                ("nixl-multiprocess", 15205, (lines.PRODUCER, lines.multiprocess(15002))),
                ("multiprocess-nixl", 15206, (lines.multiprocess(15003), lines.PRODUCER)),
            )
        ),
        lines.worker(
            kit,
            "nixl-in-process",
            15207,
            *no_apc,
            *steps,
            *off_hybrid,
            connector=lines.several(lines.PRODUCER, lines.IN_PROCESS),
            env={**env, **lines.OLD_RUNNER, **_side_channel(15207)},
        ),
    ]
    if not kit.on_gpu:  # in-process LMCache needs a GPU; a rehearsal needs few engines
        rehearsed = ("multiprocess", "nixl-multiprocess")
        return servers[:2], [engine for engine in engines if engine.name in rehearsed]
    return servers, engines


def _side_channel(port: int) -> dict[str, str]:
    return {
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(port + 1000),
    }


def examine(engine: Running, kit: Kit) -> dict[str, Any]:
    """Return every comparison of one engine: each length, around chunks, under load, in steps."""
    chunk = kit.chunk_size
    stride = 1 if kit.on_gpu else 37
    passes: dict[str, list[Compared]] = {}
    if "nixl" in engine.line.name:
        passes["several steps"] = sweep(
            engine, [700, 1000, 1500, 2500, 3000, 4096, 6000, 7000], "steps"
        )
    else:
        passes["control"] = [_control(engine, length) for length in edges(chunk)]
        passes["every length"] = sweep(engine, range(chunk, 3 * chunk + 2, stride), "each")
        with decoding(engine, 4):
            passes["beside decodes"] = sweep(engine, edges(chunk), "busy")
    print(f"  {engine.line.name}: {_in_words(passes)}", flush=True)
    return {name: [asdict(item) for item in found] for name, found in passes.items()}


def _control(engine: Running, length: int) -> Compared:
    """Compare two prompts that differ in their first half: what a hit on wrong KV would give."""
    prompt = unique(length, f"control-{length}")
    other = unique(length // 2, f"other-{length}") + prompt[length // 2 :]
    return compare(length, 0, logprobs_of(engine, prompt), logprobs_of(engine, other))


def _in_words(passes: dict[str, list[Compared]]) -> str:
    words = []
    for name, found in passes.items():
        wrong = [item.length for item in found if item.difference > WRONG]
        hit = sum(item.hits > 0 for item in found)
        most = max(item.difference for item in found)
        words.append(
            f"{name}: {len(found)} lengths, {hit} hit, {len(wrong)} wrong {wrong[:12]}, most {most}"
        )
    return "; ".join(words)


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Start every variant beside the others and examine them side by side."""
    servers, engines = variants(kit)
    with (
        running(servers, logs, 120),
        running(engines, logs, 300) as ready,
        ThreadPoolExecutor(len(ready) or 1) as pool,
    ):
        results = pool.map(lambda engine: _guarded(engine, kit), ready)
        return {
            engine.line.name: {"ready_s": engine.ready_s, "passes": found}
            for engine, found in zip(ready, results, strict=True)
        }


def _guarded(engine: Running, kit: Kit) -> dict[str, Any]:
    try:
        return examine(engine, kit)
    except (OSError, KeyError, ValueError) as error:
        print(f"  {engine.line.name} failed: {error!r}\n{engine.tail()}", flush=True)
        return {"error": repr(error)}
