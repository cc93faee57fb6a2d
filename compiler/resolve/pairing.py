"""What NIXL compares between engines that exchange KV, or needs to be equal without comparing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from compiler.document import Json, Path
from compiler.model.config import ModelConfig
from compiler.resolve.connectors import loses_hybrid_manager
from compiler.stacks.stack import Stack
from compiler.topology import Topology, WorkerGroup

LAYOUT = "VLLM_KV_CACHE_LAYOUT"
# The older names mean the same layouts: vLLM 0.32.0 config/cache.py, _LAYOUT_COMPAT_ALIASES.
LAYOUT_ALIASES = {"NHD": "LBNHC", "HND": "LBHNC"}
# What NixlConnector asks for (v1/nixl/connector.py, get_required_kvcache_layout), HND before 0.31.
_NIXL_LAYOUT = "LBHNC"
_DTYPE_ALIASES = {"half": "float16", "float": "float32"}  # 0.32.0 config/model.py
# Methods that share the target's hidden states: 0.32.0 config/speculative.py, use_eagle.
_SHARING = ("eagle", "eagle3", "mtp", "dflash", "dspark")


class Agreement(str, Enum):
    """How a factor must agree, and when a difference shows."""

    HASHED = "hashed at the handshake"
    COPIED = "not hashed, needed to copy blocks"
    SPLIT = "not hashed, needed where the sides have different ranks"
    WEIGHTS = "not hashed, makes other KV"


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One thing that both engines have; at: where a profile says it, below a group of workers."""

    name: str
    value: str
    agreement: Agreement
    at: Path = ()


def factors(
    topology: Topology, stack: Stack, group: WorkerGroup, model: ModelConfig | None
) -> Iterator[Factor]:
    """Return everything that a group's engines and those of the other side must agree on.

    Shape:  the same names in the same order for every group of a topology.
    Source: vLLM 0.32.0 and 0.25.1 v1/nixl/metadata.py, compute_nixl_compatibility_hash, and
            base_worker.py, _validate_remote_agent_handshake.
    """
    args = group.engine_args
    hybrid = "off" if loses_hybrid_manager(topology, stack) else "as the model has it"
    values: dict[str, tuple[str, Path]] = {
        "vllm": (stack.versions["vllm"], ()),
        "nixl": (stack.versions.get("nixl", "the stack's"), ()),
        "model": (topology.model.id, ()),
        "dtype": _dtype(args),
        "kv_cache_dtype": _option(args, "kv_cache_dtype", "auto"),
        "attention_backend": _attention_backend(args),
        "hybrid_manager": (hybrid, ()),
        "speculative_config": _speculative(args),
        "transfer_mode": ("pull", ()),
    }
    for name, (value, at) in values.items():
        agreement = Agreement.HASHED if name in stack.pairing.hashed else Agreement.COPIED
        if agreement is Agreement.HASHED or at:
            yield Factor(name=name, value=value, agreement=agreement, at=at)
    block = stack.platforms[topology.accelerator.value].block_size
    value, at = _option(args, "block_size", str(block))
    yield Factor(name="block_size", value=value, agreement=Agreement.COPIED, at=at)
    if model is None or not model.is_latent:  # a latent vector has no heads to lay out
        allocation = group.env.get(LAYOUT, _NIXL_LAYOUT)
        value = LAYOUT_ALIASES.get(allocation, allocation)
        yield Factor(name=LAYOUT, value=value, agreement=Agreement.COPIED, at=("env", LAYOUT))
    for name in ("quantization", "hf_overrides", "revision"):
        value, at = _option(args, name, "none")
        yield Factor(name=name, value=value, agreement=Agreement.WEIGHTS, at=at)
    value, at = _adapters(args)
    yield Factor(name="adapters", value=value, agreement=Agreement.WEIGHTS, at=at)


def _option(args: Mapping[str, Json], name: str, default: str) -> tuple[str, Path]:
    given = args.get(name)
    return default if given is None else str(given), ("engine_args", name)


def _dtype(args: Mapping[str, Json]) -> tuple[str, Path]:
    value, at = _option(args, "dtype", "auto")
    return _DTYPE_ALIASES.get(value, value), at


def _attention_backend(args: Mapping[str, Json]) -> tuple[str, Path]:
    nested = args.get("attention_config")
    if isinstance(nested, dict) and nested.get("backend") is not None:
        return str(nested["backend"]), ("engine_args", "attention_config", "backend")
    return _option(args, "attention_backend", "the engine's choice")


def _adapters(args: Mapping[str, Json]) -> tuple[str, Path]:
    """Return the adapters that a side knows by name, in one order; none where it takes none."""
    given = args.get("lora_modules") or []
    if args.get("enable_lora") is not True:
        return "none", ("engine_args", "enable_lora")
    named = sorted(map(str, given if isinstance(given, list) else [given]))
    at = "lora_modules" if named else "enable_lora"
    return ", ".join(named) or "loaded later", ("engine_args", at)


def _speculative(args: Mapping[str, Json]) -> tuple[str, Path]:
    """Return what NIXL hashes of speculative decoding: nothing where the draft has no such KV."""
    at = ("engine_args", "speculative_config")
    given = args.get("speculative_config")
    if not isinstance(given, dict):
        return "none", at
    method = str(given.get("method", ""))
    if method and not any(name in method for name in _SHARING):
        return "none", at
    keys = ("method", "model", "revision", "code_revision", "parallel_drafting", "kv_cache_dtype")
    return ", ".join(str(given[key]) for key in keys if given.get(key)) or "none", at
