"""The model: a folder that can be loaded, a download that is there already, or one to be had."""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Iterator
from pathlib import Path

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.deploy.probe.http_client import NO_ANSWER, open_url

_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.pt")
_WITHIN_S = 10


def check(subject: Subject) -> Iterator[Finding]:
    """Look for the model."""
    model = subject.plan.model
    yield _folder(Path(model)) if model.startswith("/") else _hub(model)


def _folder(path: Path) -> Finding:
    if not path.is_dir():
        return failed(
            "model", str(path), "there is no such folder", "model.id: a folder that is there"
        )
    if not os.access(path / "config.json", os.R_OK):
        return failed(
            "model", str(path), "has no config.json that can be read", "model.id: a whole model"
        )
    weights = [file for pattern in _WEIGHTS for file in path.glob(pattern)]
    if not weights:
        return failed("model", str(path), "has no weights", "download the model again")
    size = sum(file.stat().st_size for file in weights) / 1e9
    return passed("model", str(path), f"config.json and {size:.2f} GB of weights")


def _hub(model: str) -> Finding:
    """Look in the caller's download cache, then ask the hub.

    Source: huggingface_hub, HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE.
    """
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    snapshots = cache / f"models--{model.replace('/', '--')}" / "snapshots"
    if any(snapshots.glob("*/config.json")):
        return passed("model", model, f"downloaded already, in {cache}")
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    offline = "HF_HOME=… of a host that has it, or model.id: a local folder"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return failed("model", model, f"not in {cache}, and HF_HUB_OFFLINE=1", offline)
    try:
        with open_url(f"{hub}/api/models/{model}", timeout=_WITHIN_S):
            return passed("model", model, f"to be downloaded from {hub}")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return warned(
                "model", model, f"{hub} asks for a token (or has no such model)",
                "HF_TOKEN in the environment of launch.sh, or dync install --pass HF_TOKEN",
            )  # fmt: skip
        return failed(
            "model", model, f"{hub} answers {error.code}", "model.id, as the hub writes it"
        )
    except NO_ANSWER as error:
        reason = getattr(error, "reason", error)
        return failed(
            "model", model, f"not in {cache}, and {hub} cannot be reached ({reason})", offline
        )
