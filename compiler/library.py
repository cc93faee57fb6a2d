"""Hand the pure stages what ships with the program, and what is known of models."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from compiler import shipped_files
from compiler.document import Json
from compiler.errors import DataError
from compiler.model.asked import AskedModel
from compiler.model.config import FoundModel, found_model
from compiler.model.config_json import overridden
from compiler.model.kv_shape import KvShape, kv_shape
from compiler.model.layers import Unknown
from compiler.plan import Plan
from compiler.stacks.lint.references import Shipped
from compiler.stacks.lint.shape import RELATIONS, STACK, TIERS, FileKind, check_shape
from compiler.stacks.relations import Relation, parse_relations
from compiler.stacks.stack import Stack, parse_stack
from compiler.stacks.tier_specs import TierKind, TierSpecs, parse_tiers, specs_in

T = TypeVar("T")
_NO_FILES = ("/proc/", "/sys/")
"""Below these, also what looks like a file is a part of the running system."""
MAX_BYTES = 8_000_000
_MISSING = "no config.json of it is here"


def file_content(path: str | Path) -> bytes:
    """Read a regular file whole; what waits for a writer, or never ends, is refused.

    Errors: OSError, also for another kind of file and a larger one than any is; ValueError for a
    path that there cannot be.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode) or os.path.realpath(path).startswith(_NO_FILES):
            raise OSError(errno.EINVAL, "not a regular file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_BYTES} bytes")
    return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What the program brings along: the profile's schema, its stacks, and what it knows of models.

    load_model: from a local folder, a cache of Hugging Face's, or the table that ships.
    """

    schema: Mapping[str, Any]
    stack_names: tuple[str, ...]
    load_stack: Callable[[str], Stack]
    load_model: Callable[[AskedModel], FoundModel]

    def stacks(self) -> Iterator[Stack]:
        """Return every stack, by name."""
        return map(self.load_stack, self.stack_names)


def library(hub_caches: tuple[str, ...] = ()) -> Library:
    """Return the schema, the stacks and the models that ship with the program.

    hub_caches: folders in which Hugging Face's library keeps models, the first that has one first.
    """
    return Library(
        schema=shipped_files.profile_schema(),
        stack_names=tuple(shipped_files.stack_names()),
        load_stack=load_stack,
        load_model=partial(load_model, hub_caches=hub_caches),
    )


@lru_cache(maxsize=8)
def load_stack(name: str) -> Stack:
    """Read a shipped stack.

    Errors: DataError where its file, or later one that it names, does not follow its schema.
    """
    parse = partial(
        parse_stack,
        catalogue_text=partial(shipped_files.catalogue_text, name),
        lock_text=partial(shipped_files.lock_text, name),
        load_relations=load_relations,
        load_tiers=load_tiers,
    )
    return _read(f"stacks/{name}.yaml", STACK, parse)


def load_tiers(name: str) -> dict[str, TierKind]:
    """Read the storage tiers of one LMCache release.

    Errors: DataError.
    """
    return _read(f"tiers/{name}.yaml", TIERS, parse_tiers)


def load_relations() -> tuple[Relation, ...]:
    """Read what releases of vLLM ask of options together.

    Errors: DataError.
    """
    return _read("engine_relations.yaml", RELATIONS, parse_relations)


def _read(file: str, kind: FileKind, parse: Callable[[str], T]) -> T:
    """Parse a file of schemas/; its schema is asked only where that fails, to say what is wrong."""
    text, name = shipped_files.data_text(file), f"schemas/{file}"
    try:
        return parse(text)
    except Exception as error:
        found = check_shape(text, name, kind, shipped_files.schema(kind.schema)).diagnostics
        if not found:
            raise
        raise DataError(found, {name: text}) from error


def shipped() -> Shipped:
    """Return what a file of stacks, tiers or relations may name."""
    return Shipped(
        schema=shipped_files.schema,
        stack_names=tuple(shipped_files.stack_names()),
        stack_text=shipped_files.stack_text,
        tier_names=tuple(shipped_files.tier_names()),
        catalogue_names=shipped_files.catalogue_names,
        catalogue_text=shipped_files.catalogue_text,
    )


def known_stack(name: str) -> Stack | None:
    """Read the stack of a plan; None where it is not of this release."""
    return load_stack(name) if name in shipped_files.stack_names() else None


def tier_specs(plan: Plan) -> TierSpecs:
    """Read what a plan's stack says of its tiers; nothing where it is not of this release."""
    stack = known_stack(plan.stack)
    return specs_in(stack.tier_kinds, plan.lmcache.mode.value) if stack else {}


def load_model(asked: AskedModel, hub_caches: tuple[str, ...] = ()) -> FoundModel:
    """Read what rules depend on of a model."""
    try:
        found = found_model(load_config(asked, hub_caches))
        architecture = found.config.architecture if found.config else ""
        return replace(found, releases=releases_with(architecture))
    except Unknown as reason:
        said = str(reason)
        return FoundModel(config=None, reason=said, is_missing=said == _MISSING)


def load_shape(asked: AskedModel, hub_caches: tuple[str, ...] = ()) -> KvShape:
    """Read what the layers of a model keep.

    Errors: Unknown where it cannot be told; the text says why.
    """
    return kv_shape(load_config(asked, hub_caches))


def load_config(asked: AskedModel, hub_caches: tuple[str, ...] = ()) -> dict[str, Json]:
    """Read a model's config.json as the engines see it.

    Errors: Unknown where there is none, or where it is not what the engines serve.
    """
    if asked.unread:
        raise Unknown(asked.unread)
    return overridden(_config(asked, hub_caches), asked.overrides)


def _config(asked: AskedModel, hub_caches: tuple[str, ...]) -> dict[str, Json]:
    folder = model_folder(asked, hub_caches)
    if folder is not None:
        return _with_quantization(folder)
    known = known_models().get(asked.place)
    if known is None:
        raise Unknown(_MISSING)
    return dict(known)


def model_folder(asked: AskedModel, hub_caches: tuple[str, ...]) -> Path | None:
    """Return where a model's files are on this machine; None where they are not."""
    if asked.place.startswith("/"):
        return Path(asked.place)
    found = (_snapshot(Path(cache), asked.place, asked.revision) for cache in hub_caches)
    return next((folder for folder in found if folder is not None), None)


def _snapshot(cache: Path, model: str, revision: str) -> Path | None:
    """Return the folder in which Hugging Face's library keeps a revision; None where it has none.

    Source: huggingface_hub 2.4.0 file_download.py, repo_folder_name and try_to_load_from_cache.
    """
    place = cache / f"models--{model.replace('/', '--')}"
    try:
        commit = file_content(place / "refs" / revision).decode().strip()
    except (OSError, ValueError):
        commit = revision
    folder = place / "snapshots" / commit
    return folder if os.path.isfile(folder / "config.json") else None


@lru_cache(maxsize=8)
def releases_with(architecture: str) -> tuple[str, ...]:
    """Return the releases of vLLM that have an architecture; none where nobody looked for it."""
    known = json.loads(shipped_files.architectures_text())["architectures"]
    return tuple(known.get(architecture, ()))


@lru_cache(maxsize=1)
def known_models() -> dict[str, dict[str, Json]]:
    """Return the models of schemas/models.json: their config.json, as far as it is used."""
    table = json.loads(shipped_files.models_text())
    return {name: entry["config"] for name, entry in table["models"].items()}


def _with_quantization(folder: Path) -> dict[str, Json]:
    """Read a folder's config.json, and the file in which ModelOpt kept its own before 0.31.

    Source: vLLM 0.32.0 transformers_utils/config.py, hf_quant_config.json.
    """
    found = _json_file(folder / "config.json")
    if found.get("quantization_config") is None and os.path.isfile(folder / "hf_quant_config.json"):
        found["quantization_config"] = _json_file(folder / "hf_quant_config.json")
    return found


def _json_file(path: Path) -> dict[str, Json]:
    try:
        found = json.loads(file_content(path).decode())
    except OSError as error:
        raise Unknown(f"its {path.name} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise Unknown(f"its {path.name} is not JSON") from error
    if not isinstance(found, dict):
        raise Unknown(f"its {path.name} is not a mapping")
    return found


def templates() -> dict[str, str]:
    """Read every template of a bundle."""
    from compiler.emit.bundle import TEMPLATES  # noqa: PLC0415 -- Jinja2 is not for `dync check`

    return {name: shipped_files.template_text(name) for name in TEMPLATES}
