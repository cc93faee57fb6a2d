"""Write `schemas/models.json`: of widely served models, what rules read of their config.json.

    python tools/read_models.py DOWNLOADED

DOWNLOADED has the sources as they are published (tools/README.md says how to get them): wheels of
PyPI, and files of GitHub in github/OWNER/REPOSITORY/COMMIT/. Where several have a model, the first
of `SOURCES` is taken, and the others must say the same of its KV.
"""

from __future__ import annotations

import json
import sys
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.document import Json  # noqa: E402
from compiler.model.config import model_config  # noqa: E402
from compiler.model.config_json import kept  # noqa: E402
from compiler.model.kv_shape import kv_shape  # noqa: E402
from compiler.model.layers import Unknown  # noqa: E402

Config = dict[str, Json]
Models = Iterator[tuple[str, Config]]
_MADE_BY_MODELOPT: Config = {"producer": {"name": "modelopt"}}
"""No other program writes hf_quant_config.json; some copies of it leave out who made it."""
_LITGPT_FAMILIES = (
    "Qwen", "meta-llama", "google", "mistralai", "microsoft", "allenai", "codellama",
    "HuggingFaceTB", "deepseek-ai", "TinyLlama", "nvidia",
)  # fmt: skip


def whole_configs(file: Path) -> Models:
    """Read config.json files that carry their model's name, and ModelOpt's files beside them."""
    texts = _texts(file)
    for name, text in texts.items():
        stem = name.removesuffix("_config.json")
        if stem == name or stem.endswith("_hf_quant"):
            continue
        config: Config = json.loads(text)
        quantization = texts.get(f"{stem}_hf_quant_config.json")
        if quantization and config.get("quantization_config") is None:
            config["quantization_config"] = {**_MADE_BY_MODELOPT, **json.loads(quantization)}
        yield stem.rpartition("/")[2].replace("--", "/", 1), config


def litgpt(file: Path) -> Models:
    """Read LitGPT's own names for sizes; it does not say lengths as vLLM counts them."""
    text = next(text for name, text in _texts(file).items() if name == "litgpt/config.py")
    module = types.ModuleType("litgpt_config")
    sys.modules[module.__name__] = module  # a dataclass asks for its module
    exec(compile(text, str(file), "exec"), module.__dict__)
    for given in module.configs:
        one, name = module.Config(**given), given["hf_config"]
        is_gemma = name["name"].startswith("gemma")
        windowed = one.sliding_window_size is not None
        if name["org"] not in _LITGPT_FAMILIES or (windowed and not is_gemma):
            continue
        config: Config = {
            "num_hidden_layers": one.n_layer,
            "num_attention_heads": one.n_head,
            "num_key_value_heads": one.n_query_groups,
            "head_dim": one.head_size,
            "hidden_size": one.n_embd,
        }
        if windowed:
            kinds = ("full_attention", "sliding_attention")
            config["sliding_window"] = one.sliding_window_size
            config["layer_types"] = [kinds[item] for item in one.sliding_window_indices]
        yield f"{name['org']}/{name['name']}", config


def ground_truth(file: Path) -> Models:
    """Read what vLLM's own tests expect of a model."""
    for name, said in json.loads(file.read_text("utf-8")).items():
        yield (
            name,
            {
                "architectures": said["architectures"],
                "model_type": said["text_model_type"],
                "num_hidden_layers": said["total_num_hidden_layers"],
                "num_attention_heads": said["total_num_attention_heads"],
                "num_key_value_heads": said["total_num_kv_heads"],
                "head_dim": said["head_size"],
                "hidden_size": said["hidden_size"],
            },
        )


def plain(file: Path) -> Models:
    """Read a table of config.json keys by model."""
    yield from json.loads(file.read_text("utf-8")).items()


@dataclass(frozen=True)
class Source:
    """Where models are read: a file by its name in the folder of sources, and its reader."""

    name: str
    pattern: str
    read: Callable[[Path], Models]


_GITHUB_CONFIGS = "github/ai-dynamo/aiconfigurator/**/*_config.json"
SOURCES = (
    Source("aiconfigurator-core 0.12.0, PyPI", "aiconfigurator_core-0.12.0-*.whl", whole_configs),
    Source("aiconfigurator 0.8.0, PyPI", "aiconfigurator-0.8.0-*.whl", whole_configs),
    Source("github.com", _GITHUB_CONFIGS, whole_configs),
    Source("litgpt 0.5.13, PyPI", "litgpt-0.5.13-*.whl", litgpt),
    Source("github.com", "github/vllm-project/vllm/*/tests/config/*.json", ground_truth),
    Source("github.com", "github/LMCache/LMCache/*/docs/source/_static/modelconfig.json", plain),
)
# Ids under which one model is published; the first is what a source calls it.
RENAMED = {"meta-llama/Meta-Llama-3": "meta-llama/Llama-3"}
SAME = {
    "Qwen/Qwen3-Next-80B-A3B-Instruct": "Qwen/Qwen3-Next-80B-A3B-Thinking",
}
# Of models whose source says no length: max_position_embeddings of their config.json on
# huggingface.co.
LENGTHS = {
    "Qwen/Qwen3-4B": 40960,
    "meta-llama/Llama-3.1-8B-Instruct": 131072,
    "meta-llama/Llama-3.1-70B-Instruct": 131072,
    "meta-llama/Llama-3.2-3B": 131072,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 8192,
}


def main() -> int:
    """Read every source; end with 1 where two of them contradict each other."""
    folder = Path(sys.argv[1])
    found: dict[str, tuple[str, Config]] = {}
    wrong = []
    for source in SOURCES:
        for file in sorted(folder.glob(source.pattern)):
            for name, config in source.read(file):
                for one in _names(name):
                    entry = (_place(source, file, folder), config)
                    if one in found and _kv(found[one][1]) != _kv(config):
                        wrong.append(f"{one}: {found[one][0]} and {entry[0]} differ")
                    found.setdefault(one, entry)
    for name, other in SAME.items():
        found[name] = found[other]
    for name, length in LENGTHS.items():
        found[name][1].setdefault("max_position_embeddings", length)
    wrong += [name for name, (_, config) in found.items() if not _is_kept_whole(config)]
    print("\n".join(wrong), file=sys.stderr)
    (ROOT / "schemas" / "models.json").write_text(table(found), "utf-8")
    return 1 if wrong else 0


def table(found: Mapping[str, tuple[str, Config]]) -> str:
    """Write the table: one model a line, by name."""
    lines = [
        f"  {json.dumps(name)}: "
        + json.dumps({"source": source, "config": kept(config)}, ensure_ascii=False)
        for name, (source, config) in sorted(found.items())
    ]
    about = "Made by tools/read_models.py: of each model's config.json, the keys that rules read."
    body = ",\n".join(lines)
    return f'{{\n "about": {json.dumps(about)},\n "models": {{\n{body}\n }}\n}}\n'


def _texts(file: Path) -> dict[str, str]:
    """Read the text files of a wheel, or one file."""
    if file.suffix != ".whl":
        return {file.as_posix(): file.read_text("utf-8")}
    with zipfile.ZipFile(file) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(("_config.json", "config.py"))]
        return {name: wheel.read(name).decode() for name in names}


def _names(name: str) -> Iterator[str]:
    yield name
    for first, other in RENAMED.items():
        if name.startswith(first):
            yield other + name.removeprefix(first)


def _place(source: Source, file: Path, folder: Path) -> str:
    inside = file.relative_to(folder).as_posix()
    return f"{source.name}: {inside.removeprefix('github/')}" if "/" in inside else source.name


def _kv(config: Config) -> object:
    """Return what two sources must agree in: layers and their KV."""
    try:
        shape = kv_shape(config)
    except Unknown as reason:
        return str(reason)
    return shape.layers


def _is_kept_whole(config: Config) -> bool:
    """Return whether the kept keys say of a model all that its whole config.json says."""
    whole, part = model_config(config), model_config(kept(config))
    if whole.shape is not None and part.shape is not None and whole.shape.state is not None:
        states = [one.shape.state.rank_bytes(2, 1, 2, 4) for one in (whole, part)]  # type: ignore[union-attr]
        return states[0] == states[1] and whole.shape.layers == part.shape.layers
    return whole == part


if __name__ == "__main__":
    sys.exit(main())
