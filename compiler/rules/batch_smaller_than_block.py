"""A step of a hybrid model computes at least one whole block beside a cache server.

LMCache keeps a state at the end of each block, so that every step of a prompt must get there. The
blocks of these models have hundreds or thousands of tokens, and a step has no more than
max_num_batched_tokens: by default 2048 on GPUs of less than 70 GiB, 8192 on H100 and H200, 16384 on
larger ones.

Accepted:
    name: steps
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    lmcache: {chunk_size: 544}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args:
          enable_prefix_caching: true
          attention_backend: FLASH_ATTN
          max_num_batched_tokens: 2048

Rejected:
    name: steps
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    lmcache: {chunk_size: 544}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args:
          enable_prefix_caching: true
          attention_backend: FLASH_ATTN
          max_num_batched_tokens: 512

Source: lmcache 0.5.6 integration/vllm/lmcache_mp_connector.py, "Mamba-hybrid models with LMCache
require max_num_batched_tokens >= block_size"; vLLM 0.32.0 engine/arg_utils.py, get_batch_defaults.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.blocks import STEP_DEFAULTS, Block, asked_step, block_of
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology, WorkerGroup

RULE = Rule(
    "batch-smaller-than-block",
    Severity.ERROR,
    "LMCache keeps a state at the end of each block, which a step of fewer tokens never reaches",
)
_NAME = "max_num_batched_tokens"


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report each worker whose steps are smaller than a block that holds a state."""
    platform = stack.platforms.get(topology.accelerator.value)
    if platform is None or topology.lmcache.mode is not CacheMode.MULTIPROCESS:
        return
    for group in topology.caching:
        block = block_of(group, platform, model)
        if block is not None and block.holds_state:
            yield from _wrong(topology, group, block)


def _wrong(topology: Topology, group: WorkerGroup, block: Block) -> Iterator[Diagnostic]:
    given, span = group.engine_args.get(_NAME), group.origin.of("engine_args", _NAME)
    fix = f"write engine_args: {{{_NAME}: {block.tokens}}} or more"
    blocks = f"a block of {topology.model.id} has {block.tokens}"
    asked = asked_step(group)
    if asked is not None and asked < block.tokens:
        yield RULE.at(span, f"{_NAME} {asked} is less than one block: {blocks}", fix=fix)
    elif given is None and block.tokens > STEP_DEFAULTS[0][0]:
        below = [(most, gpus) for most, gpus in STEP_DEFAULTS if most < block.tokens]
        most, gpus = below[-1]
        is_sure = len(below) == len(STEP_DEFAULTS)
        yield RULE.at(
            span,
            f"{_NAME} is {most} by default on GPUs of {gpus}, and {blocks}",
            fix=fix,
            severity=None if is_sure else Severity.WARNING,
        )
