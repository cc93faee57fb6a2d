"""A worker beside a cache server computes in whole blocks.

FlashInfer computes in pages of 16, 32 or 64 tokens. A block of another size, which a profile asks
for or which the states of a hybrid model force, is split into such pages, and LMCache's server
takes one page for the block: it keeps a part of it, hits are counted, and answers are other ones.

Accepted:
    name: blocks
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], engine_args: {attention_backend: FLASHINFER, block_size: 64}}

Rejected:
    name: blocks
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], engine_args: {attention_backend: FLASHINFER, block_size: 128}}

Source: LMCache#4247, #4701, #4886; vLLM 0.32.0 v1/attention/backends/flashinfer.py,
get_supported_kernel_block_sizes, v1/worker/utils.py, select_common_block_size, and
platforms/cuda.py, _get_backend_priorities; lmcache 0.5.6 v1/kv_layer_groups.py and integration/
vllm/kv_cache_group_edits.py, run on made caches: half of each block of 128 tokens was kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.document import Json
from compiler.model.config import ModelConfig
from compiler.stacks.stack import Stack
from compiler.topology import Accelerator, CacheMode, Topology, WorkerGroup

RULE = Rule(
    "split-blocks",
    Severity.ERROR,
    "LMCache's server keeps one page of a block that the attention backend splits",
)
PAGES = (16, 32, 64)
SPLITTER = "FLASHINFER"
_NARROW = ("fp8", "nvfp4")
"""KV dtypes for which vLLM takes FlashInfer by itself on GPUs other than Hopper's."""


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report workers whose blocks FlashInfer splits, or would where vLLM takes it by itself."""
    on_gpu = topology.accelerator is Accelerator.CUDA
    platform = stack.platforms.get(topology.accelerator.value)
    if not on_gpu or platform is None or topology.lmcache.mode is not CacheMode.MULTIPROCESS:
        return
    is_hybrid = model is not None and model.keeps_state
    for group in topology.workers:
        size = group.engine_args.get("block_size") or platform.block_size
        is_split = isinstance(size, int) and size > max(PAGES)
        if topology.uses_lmcache(group) and (is_hybrid or is_split):
            yield from _split(topology, group, "" if is_hybrid else str(size))


def _split(topology: Topology, group: WorkerGroup, size: str) -> Iterator[Diagnostic]:
    """Report one worker; size is empty where the model's states say it."""
    args = group.engine_args
    backend, is_narrow = _backend(args), str(args.get("kv_cache_dtype")).startswith(_NARROW)
    what = f"blocks of {size} tokens" if size else f"the blocks of {topology.model.id}"
    smaller = "block_size: 64, or " if size else ""
    if backend == SPLITTER:
        key = "attention_backend" if args.get("attention_backend") else "attention_config"
        message = f"FlashInfer splits {what}, and LMCache keeps one page of each"
        other = "TRITON_ATTN" if key == "attention_backend" else "{backend: TRITON_ATTN}"
        fix = f"write {smaller}{key}: {other}"
        yield RULE.at(group.origin.of("engine_args", key), message, fix=fix)
    elif backend is None and is_narrow:
        message = (
            f"with kv_cache_dtype {args['kv_cache_dtype']} vLLM takes FlashInfer by itself on most "
            f"GPUs, which splits {what}"
        )
        fix = f"write {smaller}attention_backend: TRITON_ATTN (on Hopper also FLASH_ATTN)"
        at = group.origin.of("engine_args", "kv_cache_dtype")
        yield RULE.at(at, message, fix=fix)
    elif backend is None and not size:
        message = f"on a Blackwell GPU vLLM takes FlashInfer by itself, which splits {what}"
        at = topology.model.origin.of("id")
        fix = "write engine_args: {attention_backend: FLASH_ATTN} for this worker"
        yield RULE.at(at, message, fix=fix, severity=Severity.WARNING)


def _backend(args: Mapping[str, Json]) -> str | None:
    """Return the attention backend that a profile asks for, in either of its two places."""
    config = args.get("attention_config")
    nested = config.get("backend") if isinstance(config, Mapping) else None
    named = args.get("attention_backend") or nested
    return str(named).upper() if named else None
