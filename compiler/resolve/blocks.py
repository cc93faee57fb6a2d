"""Tell in which blocks a group's engines keep a model's KV."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.model.block_size import WorkerShape, asked_block, worker_shape
from compiler.model.config import ModelConfig
from compiler.model.kv_shape import KvShape
from compiler.model.layers import Unknown
from compiler.resolve.connectors import chunk_multiple
from compiler.stacks.stack import Platform, Stack
from compiler.topology import WorkerGroup

LEAST_CHUNK = 128
"""Tokens: smaller chunks cost many look-ups a prompt."""
STEP_DEFAULTS = ((2048, "less than 70 GiB"), (8192, "less than 160 GiB"), (16384, "any size"))
"""A server's max_num_batched_tokens, by the memory of a GPU (vLLM 0.32.0 engine/arg_utils.py,
get_batch_defaults)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a chunk must be a whole number of, in tokens, and where it comes from.

    holds_state: the engine raises it to the size of a state.
    """

    tokens: int
    because: str
    holds_state: bool = False


def split_of(group: WorkerGroup, shape: KvShape, platform: Platform) -> WorkerShape:
    """Return what each engine of a group has of a model."""
    return worker_shape(shape, group.tensor_parallel_size, group.engine_args, platform)


def block_of(group: WorkerGroup, platform: Platform, model: ModelConfig | None) -> Block | None:
    """Return a group's blocks; None where the states of its model are not known."""
    tokens, because = chunk_multiple(group, platform)
    spread = tokens // (asked_block(group.engine_args) or platform.block_size)
    if model is None or not model.keeps_state:
        return Block(tokens=tokens, because=because)
    if model.shape is None:
        return None
    split = split_of(group, model.shape, platform)
    try:
        raised = split.block_tokens * spread
    except Unknown:
        return None
    if raised <= tokens:
        return Block(tokens=tokens, because=because)
    ranks = f" over {split.ranks} GPUs" if split.ranks > 1 else ""
    because = f"vLLM raises it to hold a state of the model{ranks}"
    return Block(tokens=raised, because=because, holds_state=True)


def asked_step(group: WorkerGroup) -> int | None:
    """Return the most tokens of one step that a profile asks for."""
    given = group.engine_args.get("max_num_batched_tokens")
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def step_tokens(group: WorkerGroup) -> int:
    """Return the most tokens of one step of a group's engines, or the largest default."""
    asked = asked_step(group)
    return STEP_DEFAULTS[-1][0] if asked is None else asked


def is_one_block_a_chunk(
    group: WorkerGroup, block: Block, stack: Stack, model: ModelConfig | None
) -> bool:
    """Return whether a cache server finds only chunks of one block again.

    So it is where layers keep a state at the end of each step, and a step may have several blocks.
    """
    ends_steps = model is not None and model.keeps_state and not stack.connectors.steps_of_one_block
    return ends_steps and step_tokens(group) >= 2 * block.tokens
