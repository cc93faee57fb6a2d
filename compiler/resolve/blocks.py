"""Tell in which blocks a group's engines keep a model's KV."""

from __future__ import annotations

from compiler.model.block_size import WorkerShape
from compiler.model.kv_shape import KvShape
from compiler.stacks.stack import Platform
from compiler.topology import WorkerGroup


def split_of(group: WorkerGroup, shape: KvShape, platform: Platform) -> WorkerShape:
    """Return what each engine of a group has of a model."""
    return WorkerShape(
        shape=shape,
        ranks=group.tensor_parallel_size,
        engine_args=group.engine_args,
        default_block=platform.block_size,
        latent_block=platform.latent_block,
    )
