"""`dync init`: a first profile."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

import click

from compiler.cli.echo import echo
from compiler.document import Json

_EXAMPLE = "Qwen/Qwen3-0.6B"
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9._/-]*\Z")


@click.command("init")
@click.argument("topology", type=click.Choice(["agg", "disagg"]), default="agg")
@click.option("--model", metavar="ID", help="Write it for this model: an id, or a folder.")
@click.option("-o", "--out", metavar="FILE", help="Write here. Default: standard output.")
def init_command(topology: str, model: str | None, out: str | None) -> None:
    """Write a commented profile to edit.

    agg has one kind of worker, disagg separate prefill and decode workers. Default: agg.
    """
    from compiler import shipped_files

    text = shipped_files.template_text(f"init/{topology}.yaml")
    if model is not None:
        text = _for_model(text, model)
    if out is None:
        echo(text, nl=False)
        return
    try:
        with open(out, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise click.ClickException(f"{out} exists: name another file") from error
    echo(f"wrote {out}; next: dync check {out}")


def _for_model(text: str, model: str) -> str:
    """Return a template with another model, its chunks and the options that its layers need."""
    is_plain = "/" in model and _PLAIN.match(model)  # a bare word may be a number to YAML
    word = model if is_plain else json.dumps(model)
    text = text.replace(f"  id: {_EXAMPLE}", f"  id: {word}").replace(_EXAMPLE, word)
    needed = _needed(model)
    if not needed:
        return text
    block = needed["chunk_size"]
    text = re.sub(
        r"(?m)^  chunk_size: 256 +# .*$",
        f"  chunk_size: {block} # one block, which holds a state of the model",
        text,
    )
    options = ", ".join(
        f"{name}: {value}" for name, value in needed.items() if name != "chunk_size"
    )
    text = text.replace("engine_args: {block_size: 64}", f"engine_args: {{{options}}}")
    return re.sub(
        r"(?m)^    # engine_args: \{\} +# .*$",
        f"    engine_args: {{{options}}} # what layers with a state need to be cached",
        text,
    )


def _needed(model: str) -> Mapping[str, str]:
    """Return what a profile of a hybrid model has besides; nothing for other models.

    Source: compiler/rules/hybrid_model.py, chunk_size_alignment.py, chunk_of_several_blocks.py and
            split_blocks.py.
    """
    from compiler.cli.profiles import hub_caches
    from compiler.library import load_model, load_stack
    from compiler.model.asked import asked_model
    from compiler.model.block_size import worker_shape
    from compiler.model.layers import Unknown
    from compiler.resolve.blocks import LEAST_CHUNK

    found = load_model(asked_model(model, [{}]), hub_caches(os.environ)).config
    if found is None or not found.keeps_state or found.shape is None:
        return {}
    platform = load_stack("vllm-0.32").platforms["cuda"]
    try:
        block = worker_shape(found.shape, 1, {}, platform).block_tokens
        is_small = block < LEAST_CHUNK
        if is_small:  # a chunk is one block: chunk-of-several-blocks
            wished: dict[str, Json] = {"block_size": 2 * LEAST_CHUNK}
            block = worker_shape(found.shape, 1, wished, platform).block_tokens
    except Unknown:
        return {}
    needed = {"chunk_size": str(block), "enable_prefix_caching": "true"}
    needed |= {"block_size": str(block)} if is_small else {}
    needed["attention_backend"] = "FLASH_ATTN"
    if block > 2048:  # vLLM's default on smaller GPUs: batch-smaller-than-block
        needed["max_num_batched_tokens"] = str(max(block, 8192))
    return needed
