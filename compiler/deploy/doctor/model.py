"""The model: a folder that can be loaded, a download that is there already, or one to be had."""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Iterator, Mapping
from pathlib import Path

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.environment_file import read_environment
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.deploy.probe.http_client import NO_ANSWER, open_url

_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.pt")
_CONFIGS = ("config.json", "params.json")
_WITHIN_S = 10


def check_folder(subject: Subject) -> Iterator[Finding]:
    """Look for a model's folder; an image's may be mounted on the machine, and is not opened."""
    model = subject.plan.model
    if model.startswith("/") and not os.path.isdir(subject.host.at(Path(model))):
        yield failed(
            "model", model, f"there is no model folder {model} (model.id)", "name one that is there"
        )


def check_files(subject: Subject) -> Iterator[Finding]:
    """Look into a model's folder for what would otherwise be found after a minute of loading."""
    model = subject.plan.model
    if not model.startswith("/") or not os.path.isdir(model):
        return
    closed = subject.said("find", "-L", model, "!", "-readable", "-print", "-quit")
    if closed is None or closed:
        which = (closed or model).strip()
        yield failed(
            "model",
            model,
            f"{subject.who} cannot read {which} (model.id)",
            f"chmod -R a+rX {model}, and the folders above it",
        )
    elif os.access(model, os.R_OK | os.X_OK):  # else only the account may look into it
        yield _whole(Path(model), loads_any=not _names_its_load_format(subject))


def _names_its_load_format(subject: Subject) -> bool:
    """Return whether the engines are told how weights are kept, if there are any (dummy)."""
    return any(
        "load_format" in worker.launch.engine_args or "--load-format" in worker.argv
        for worker in subject.plan.workers
    )


def _whole(path: Path, *, loads_any: bool) -> Finding:
    """Look for a configuration, and for weights where the engine is to find out what they are.

    Source: vllm 0.32.0 transformers_utils/config.py: params.json is that of Mistral's own format.
    """
    configs = [name for name in _CONFIGS if os.path.isfile(path / name)]
    if not configs:
        return failed("model", str(path), "has no config.json", "model.id: a whole model")
    if not loads_any:
        return passed("model", str(path), f"{configs[0]}, and weights as load_format says")
    weights = [file for pattern in _WEIGHTS for file in path.glob(pattern)]
    if not weights:
        return failed("model", str(path), "has no weights", "download the model again")
    size = sum(file.stat().st_size for file in weights) / 1e9
    return passed("model", str(path), f"{configs[0]} and {size:.2f} GB of weights")


def check_hub(subject: Subject) -> Iterator[Finding]:
    """Look for a model by its id where the processes will, then ask the hub."""
    model = subject.plan.model
    if not model.startswith("/"):
        yield _hub(model, _environment(subject))


def _environment(subject: Subject) -> Mapping[str, str]:
    """Return the variables that decide where a model is looked for: the caller's, or the units'."""
    if not subject.is_under_systemd:
        return {"HF_HOME": str(Path.home() / ".cache" / "huggingface"), **os.environ}
    own = subject.plan.workers[0].env
    home = subject.host.cache / subject.plan.name / "huggingface"
    kept = {**read_environment(subject.host, subject.plan.name), **subject.passed}
    return {"HF_HOME": str(home), **own, **kept}


def _hub(model: str, environment: Mapping[str, str]) -> Finding:
    """Look in the download cache, then ask the hub.

    Source: huggingface_hub, HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE.
    """
    cache = Path(environment.get("HF_HUB_CACHE") or f"{environment['HF_HOME']}/hub")
    snapshots = cache / f"models--{model.replace('/', '--')}" / "snapshots"
    if any(snapshots.glob("*/config.json")):
        return passed("model", model, f"downloaded already, in {cache}")
    hub = environment.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    offline = "HF_HOME=… that has it (dync install --pass HF_HOME), or model.id: a local folder"
    if environment.get("HF_HUB_OFFLINE") == "1":
        return failed("model", model, f"not in {cache}, and HF_HUB_OFFLINE=1", offline)
    try:
        with open_url(f"{hub}/api/models/{model}", timeout=_WITHIN_S):
            return passed("model", model, f"to be downloaded from {hub}")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return warned(
                "model", model, f"{hub} asks for a token (or has no such model)",
                "secret_env: {HF_TOKEN: FILE} in the profile, HF_TOKEN in the environment of "
                "launch.sh, or dync install --pass HF_TOKEN",
            )  # fmt: skip
        return failed(
            "model", model, f"{hub} answers {error.code}", "model.id, as the hub writes it"
        )
    except NO_ANSWER as error:
        reason = getattr(error, "reason", error)
        return failed(
            "model", model, f"not in {cache}, and {hub} cannot be reached ({reason})", offline
        )
