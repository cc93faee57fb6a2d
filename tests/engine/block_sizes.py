"""Ask vLLM how many tokens a block of a hybrid model has, without a model or an engine.

Run by the stack's Python: reads a JSON list of questions from the file named first, writes the
answers to the second: the tokens and the bytes of a state, or the error. The configuration is made
of plain objects; what is asked of it is vLLM's own code: the model class's states, the defaults of
its family, heads and head sizes, and `_align_hybrid_block_size` with FlashAttention's blocks.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from functools import cache
from importlib.machinery import ModuleSpec
from types import SimpleNamespace as Made
from typing import Any
from unittest.mock import MagicMock

import torch
import vllm.config.vllm
from vllm.config.model import ModelConfig
from vllm.model_executor.models import ModelRegistry
from vllm.model_executor.models.config import MODELS_CONFIG_MAP
from vllm.platforms.interface import Platform
from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase
from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend
from vllm.v1.kv_cache_interface import MambaSpec


class Config(Made):
    """A configuration as transformers has it: what is missing is missing."""

    name_or_path = ""


def engine_config(question: dict[str, Any]) -> Any:
    """Build what the alignment reads of a VllmConfig."""
    whole = Config(**question["config"])
    text = Config(**question["config"].get("text_config", question["config"]))
    convertor = ModelArchConfigConvertorBase(whole, text)
    args = question["engine_args"]
    drafts = (args.get("speculative_config") or {}).get("num_speculative_tokens", 0)
    model = Made(
        dtype=torch.bfloat16,
        hf_config=whole,
        hf_text_config=text,
        architecture=question["architecture"],
        use_mla=convertor.is_deepseek_mla(),
        model_arch_config=Made(total_num_kv_heads=convertor.get_total_num_kv_heads()),
        get_head_size=convertor.get_head_size,
        registry=ModelRegistry,
    )
    model.get_num_kv_heads = lambda parallel: ModelConfig.get_num_kv_heads(model, parallel)
    cached = Made(
        cache_dtype=args.get("kv_cache_dtype", "auto"),
        block_size=args.get("block_size", 16),
        mamba_cache_mode="align",
        mamba_block_size=None,
        mamba_page_size_padded=None,
        mamba_cache_dtype="auto",
        mamba_ssm_cache_dtype=args.get("mamba_ssm_cache_dtype", "auto"),
        kv_cache_dtype_skip_layers=[],
        use_replayssm=False,
        use_kda_recoverssm=False,
    )
    asked = Made(
        model_config=model,
        cache_config=cached,
        parallel_config=Made(tensor_parallel_size=question["ranks"]),
        speculative_config=Made(num_speculative_tokens=drafts) if drafts else None,
        num_speculative_tokens=drafts,
    )
    # Kimi-K3 asks its text model with a configuration of the text alone.
    inner = Made(**{**vars(asked), "model_config": Made(**{**vars(model), "hf_config": text})})
    asked.with_hf_config = lambda *_, **__: inner
    return asked


def answer(question: dict[str, Any]) -> list[int]:
    """Return the tokens of a block, and the bytes of one state."""
    asked = engine_config(question)
    family = MODELS_CONFIG_MAP.get(question["architecture"])
    if family is not None:
        family.verify_and_update_config(asked)
    its = model_class(question["architecture"])
    state = MambaSpec(
        block_size=-1,
        shapes=its.get_mamba_state_shape_from_config(asked),
        dtypes=its.get_mamba_state_dtype_from_config(asked),
    )
    Platform._align_hybrid_block_size(asked, FlashAttentionBackend)
    return [asked.cache_config.block_size, state.page_size_bytes]


@cache
def model_class(architecture: str) -> Any:
    """Return vLLM's class of a model, without choosing one by a configuration."""
    return ModelRegistry.models[architecture].load_model_cls()


def main() -> None:
    """Answer every question."""
    vllm.config.vllm.set_current_vllm_config = contextlib.nullcontext  # no config is current
    Platform._find_non_ssm_backends = classmethod(lambda *_: [FlashAttentionBackend])
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2"):
        # Processors of images import it, and a CPU stack goes without.
        sys.modules.setdefault(name, MagicMock(__spec__=ModuleSpec(name, None)))
    with open(sys.argv[1], encoding="utf-8") as file:
        questions = json.load(file)
    answers: list[Any] = []
    ModelRegistry.resolve_model_cls = lambda name, **_: (model_class(name), name)
    for question in questions:
        try:
            answers.append(answer(question))
        except Exception:
            answers.append(traceback.format_exc(limit=-3))
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main()
