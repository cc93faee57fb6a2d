"""Fill a stack's skeletons: braces name what the plan puts there.

The words that every process has: python and bin (the stack's own), name (the deployment's), model,
served_name, max_len, chunk_size, chunk_prompt (token ids that fill a chunk), probe_prompt (the
same, or a word where LMCache is off), cpu_cache_gb, drain_s, etcd_endpoints, nats_server. A worker
also: host, port, engine_file, cache_port, tensor_parallel_size, without_hybrid_manager; a cache
server: cache_port, http_port; the frontend: host, port, policy, and url for each worker. A word for
each port that the stack asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from compiler.document import Json
from compiler.errors import CompilerBug

_WORD = re.compile(r"\{([a-z_]+)\}")


def fill(item: Json, values: Mapping[str, Json]) -> Json:
    """Fill one value; an item that is nothing but one word keeps that word's type."""
    if isinstance(item, dict):
        return {key: fill(value, values) for key, value in item.items()}
    if isinstance(item, list):
        return [fill(value, values) for value in item]
    if not isinstance(item, str):
        return item
    whole = _WORD.fullmatch(item)
    if whole:
        return _word(whole[1], values)
    return _WORD.sub(lambda match: text_of(_word(match[1], values)), item)


def fill_argv(
    items: Iterable[Any],
    values: Mapping[str, Json],
    each: Mapping[str, tuple[Mapping[str, Json], ...]] | None = None,
) -> tuple[str, ...]:
    """Fill an argv; {each: ROLE, argv: […]} repeats for every worker of that role."""
    argv: list[str] = []
    for item in items:
        if isinstance(item, dict):
            for worker in (each or {})[item["each"]]:
                argv.extend(fill_argv(item["argv"], worker))
        else:
            argv.append(text_of(fill(item, values)))
    return tuple(argv)


def text_of(value: Json) -> str:
    """Write a value as one word of a command line: 20.0 is 20."""
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)


def _word(name: str, values: Mapping[str, Json]) -> Json:
    if name not in values:
        raise CompilerBug(f"a stack's skeleton names {{{name}}}, known: {sorted(values)}")
    return values[name]
