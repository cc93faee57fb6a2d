"""Make a small random model of a kind, by the stack's own Python: make_kind.py FOLDER TOKENIZER.

FOLDER holds its config.json already; beside it come weights whose answers depend on all the model
is given, and the tokenizer of bytes of another made model. FOLDER/adapter-a and adapter-b become
LoRA adapters of the attention, where `adapters` in FOLDER/kind.json says so.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

RANK = 8
SLOWLY = -6.0


def main() -> None:
    """Write weights once."""
    folder, tokenizer = Path(sys.argv[1]), Path(sys.argv[2])
    if (folder / "made").exists():
        return
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    for path in tokenizer.glob("token*"):
        shutil.copy(path, folder / path.name)
    for path in tokenizer.glob("special*"):
        shutil.copy(path, folder / path.name)
    said = (folder / "config.json").read_text("utf-8")
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    words = json.loads((tokenizer / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    printable = [index for word, index in words.items() if len(word) == 1 and "!" <= word <= "~"]
    head = model.get_output_embeddings().weight
    others = sorted(set(range(len(head))).difference(printable))
    with torch.no_grad():
        head[others] = 0.0  # far below the likeliest of 94, whose texts tell them apart
        for name, weight in model.named_parameters():
            if name.endswith("A_log"):  # states that forget a prompt's begin would prove nothing
                weight.fill_(SLOWLY)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "config.json").write_text(said, "utf-8")
    if json.loads((folder / "kind.json").read_text("utf-8"))["adapters"]:
        for number, name in enumerate("ab"):
            adapter(folder / f"adapter-{name}", model, number)
    (folder / "made").touch()


def adapter(folder: Path, model: Any, seed: int) -> None:
    """Write an adapter of the queries and values of every layer, as peft lays it out."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed + 1)
    weights = {}
    for name, layer in model.named_modules():
        if name.endswith(("q_proj", "v_proj")):
            shapes = {"A": (RANK, layer.in_features), "B": (layer.out_features, RANK)}
            for side, shape in shapes.items():
                key = f"base_model.model.{name}.lora_{side}.weight"
                weights[key] = torch.randn(*shape, dtype=torch.bfloat16) * 0.2
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "base_model_name_or_path": "",
    }
    (folder / "adapter_config.json").write_text(json.dumps(content), "utf-8")


if __name__ == "__main__":
    main()
