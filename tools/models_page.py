"""Write the table of docs/models.md: every known model, and on which stacks it is cached.

python tools/models_page.py            # rewrites the table in place
python tools/models_page.py --print    # prints the whole page
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.byte_units import byte_text  # noqa: E402 -- the checkout, wherever this is run from
from compiler.diagnostic import Severity  # noqa: E402
from compiler.document import Json  # noqa: E402
from compiler.library import known_models, library, load_stack, releases_with  # noqa: E402
from compiler.model.block_size import worker_shape  # noqa: E402
from compiler.model.config import FoundModel, found_model  # noqa: E402
from compiler.model.kv_shape import kv_shape, shape_text  # noqa: E402
from compiler.model.layers import Unknown  # noqa: E402
from compiler.pipeline import compile_profile  # noqa: E402
from compiler.shipped_files import stack_names  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
_BLOCK = re.compile(r"(<!-- made by tools/models_page.py -->\n).*?(<!-- end -->)", re.S)
_SPLITS = (1, 8)
_MODES = {"multiprocess": "server", "in_process": "in process"}


def page() -> str:
    """Return the page with its table made again."""
    text = PAGE.read_text("utf-8")
    return _BLOCK.sub(lambda block: f"{block[1]}\n{table()}\n{block[2]}", text)


def table() -> str:
    """Return a row for each known model."""
    head = ("Model", "Its layers keep", "KV a token", "Block", *sorted(stack_names(), reverse=True))
    rows = [head, tuple("---" for _ in head), *rows_of(known_models())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def rows_of(models: Mapping[str, Mapping[str, Json]]) -> Iterator[tuple[str, ...]]:
    """Return what is computed of each model, and what each stack does with it."""
    for name, config in models.items():
        found = found_model(config)
        try:
            shape = kv_shape(config)
            token = byte_text(shape.rank_bytes(1, shape.value_bytes({})))
            kept = shape_text(shape)
        except Unknown as reason:
            token, kept = "unknown", f"unknown: {reason}"
        stacks = sorted(stack_names(), reverse=True)
        caches = [
            cached_on(stack, name, found, _key(found, config))
            if has_architecture(stack, found)
            else "not there"
            for stack in stacks
        ]
        yield (f"`{name}`", kept, token, _blocks(found), *caches)


def _blocks(found: FoundModel) -> str:
    """Return the tokens of a block over one GPU and over eight, where a state decides."""
    if found.config is None or not found.config.keeps_state:
        return ""
    return " / ".join(str(_block(found, ranks, "vllm-0.32")) for ranks in _SPLITS)


def _block(found: FoundModel, ranks: int, stack: str) -> int:
    platform = load_stack(stack).platforms["cuda"]
    shape = found.config.shape if found.config else None
    if shape is None:
        return platform.block_size
    return worker_shape(shape, ranks, {}, platform).block_tokens


def _key(found: FoundModel, config: Mapping[str, Json]) -> str:
    """Return what of a model decides which stacks cache it; models that share it share answers."""
    model = found.config
    if model is None:
        return "unknown"
    shape = model.shape
    is_mamba = shape is not None and shape.state is not None and shape.state.is_mamba
    block = _block(found, 1, "vllm-0.32") if model.keeps_state else 0
    facts = (
        model.keeps_state,
        model.has_windows,
        model.has_index,
        model.is_latent,
        is_mamba,
        block,
    )
    return json.dumps([*facts, found.reason, bool(config.get("is_encoder_decoder"))])


def has_architecture(stack: str, found: FoundModel) -> bool:
    """Return whether a stack's vLLM has a model's architecture, or nothing says so."""
    releases = releases_with(found.config.architecture) if found.config else ()
    return not releases or load_stack(stack).versions["vllm"] in releases


_ANSWERS: dict[tuple[str, str], str] = {}


def cached_on(stack: str, name: str, found: FoundModel, key: str) -> str:
    """Return the mode in which a stack caches a model: a profile that fits it is accepted."""
    if (stack, key) not in _ANSWERS:
        modes = [word for mode, word in _MODES.items() if accepted(stack, name, found, mode)]
        _ANSWERS[stack, key] = modes[0] if modes else "no"
    return _ANSWERS[stack, key]


def accepted(stack: str, name: str, found: FoundModel, mode: str) -> bool:
    """Return whether a profile of this model has no error, written as its rules ask."""
    state = found.config is not None and found.config.keeps_state
    args: dict[str, Json] = {"enforce_eager": True}
    chunk = 256
    if state and mode == "multiprocess":
        chunk = _block(found, 1, stack)
        args |= {"enable_prefix_caching": True, "attention_backend": "FLASH_ATTN"}
        args |= {"max_num_batched_tokens": max(chunk, 8192)}
        connectors = _library().load_stack(stack).connectors
        if connectors.refused_cache_mode:
            args["mamba_cache_mode"] = "align"
        if connectors.steps_of_one_block:
            chunk = max(chunk, 512)
            args |= {"block_size": chunk, "max_num_batched_tokens": chunk}
    worker: dict[str, Json] = {"role": "aggregated", "gpus": [0], "engine_args": args}
    profile: dict[str, Json] = {
        "name": "one",
        "stack": stack,
        "topology": "agg",
        "model": {"id": name},
        "lmcache": {"mode": mode, "chunk_size": chunk},
        "workers": [worker],
    }
    compiled = compile_profile("one.yaml", lambda _: json.dumps(profile), (), _library())
    return all(found.severity is not Severity.ERROR for found in compiled.diagnostics)


_library = cache(library)


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(page(), end="")
    else:
        PAGE.write_text(page(), "utf-8")
