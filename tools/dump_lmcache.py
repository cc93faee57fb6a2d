"""Write LMCache's configuration keys, and the options of ``lmcache server``, as JSON.

Run by ``catalogue.py`` under an interpreter that can import LMCache: ``dump_lmcache.py
OUT-config.json OUT-server.json``. Reads lmcache 0.3.7 to 0.5.6: lmcache/v1/config.py
(``_CONFIG_DEFINITIONS``, ``_CONFIG_ALIASES``, ``_DEPRECATED_CONFIGS``) and
lmcache/cli/commands/server.py (``ServerCommand.add_arguments``).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import native_stubs
from env_names import env_names_read, env_prefixes
from flag_catalogue import CallableTypes, Entry, add_default, describe_options, write_catalogue

NATIVE_MODULES = (
    "lmcache.c_ops",
    "lmcache.cuda_ops",
    "lmcache.lmcache_native",
    "lmcache.native_storage_ops",
)
JSON_TYPES: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    dict: "object",
}
# Text that LMCache itself reads as JSON (lmcache/v1/distributed/config.py, its
# l2_adapters/config.py and lmcache/v1/multiprocess/config.py, 0.5.3 and 0.5.6).
JSON_OPTIONS = {
    "l1_manager": ["object"],
    "l2_adapter": ["object"],
    "runtime_plugin_config": ["object"],
    "server_module": ["object"],
}


def flatten(hint: Any) -> Iterator[Any]:
    """Return the members of a union, or the hint itself."""
    if get_origin(hint) in (Union, types.UnionType):
        for member in get_args(hint):
            yield from flatten(member)
    else:
        yield hint


def describe_key(key: str, definition: dict[str, Any], unmapped: set[str]) -> Entry:
    """Return the catalogue entry of one configuration key."""
    entry: Entry = {"env": f"LMCACHE_{key.upper()}", "types": []}
    for member in flatten(definition["type"]):
        origin = get_origin(member) or member
        if member is type(None):
            entry["nullable"] = True
            continue
        if origin is list:
            entry["many"] = True
            member = get_args(member)[0]  # noqa: PLW2901 -- a list's types are its elements'
        name = JSON_TYPES.get(get_origin(member) or member)
        if name is None:
            unmapped.add(repr(member))
        entry["types"].append(name or "string")
    entry["types"] = sorted(set(entry["types"]))
    add_default(entry, definition.get("default"))
    if definition.get("description"):
        entry["help"] = " ".join(str(definition["description"]).split())[:160]
    return entry


def config_catalogue() -> dict[str, Any]:
    """Return every in-process configuration key, with renamed and retired ones."""
    config: Any = importlib.import_module("lmcache.v1.config")
    unmapped: set[str] = set()
    options = {
        key: describe_key(key, definition, unmapped)
        for key, definition in config._CONFIG_DEFINITIONS.items()
    }
    for key, text in config._DEPRECATED_CONFIGS.items():
        if key in options:
            options[key]["deprecated"] = text
    root = Path(importlib.import_module("lmcache").__file__ or "").parent
    own = {entry["env"] for entry in options.values()}
    return {
        "source": "lmcache.v1.config._CONFIG_DEFINITIONS",
        "options": options,
        "renamed": dict(config._CONFIG_ALIASES),
        "deprecated": dict(config._DEPRECATED_CONFIGS),
        "other_env": sorted(env_names_read(root, "LMCACHE_") - own),
        "env_prefixes": sorted(env_prefixes(root, "LMCACHE_")),
        "unmapped": sorted(unmapped),
    }


def server_catalogue() -> dict[str, Any] | None:
    """Return every option of ``lmcache server``; None for releases before 0.5, which lack it."""
    if importlib.util.find_spec("lmcache.cli") is None:
        return None
    command: Any = importlib.import_module("lmcache.cli.commands.server")
    parser = argparse.ArgumentParser()
    command.ServerCommand().add_arguments(parser)
    known = CallableTypes()
    options = describe_options(parser._actions, known, JSON_OPTIONS)
    if "http_port" not in options:  # add_arguments swallows ImportError and stops half way
        raise SystemExit("lmcache server's parser is incomplete; add to NATIVE_MODULES")
    return {
        "source": "lmcache.cli.commands.server.ServerCommand.add_arguments",
        "options": options,
        "unmapped": sorted(known.unmapped),
    }


def main(config_path: str, server_path: str) -> None:
    """Write both catalogues."""
    sys.argv = ["lmcache"]
    native_stubs.install(*NATIVE_MODULES)
    header = {"package": "lmcache", "version": importlib.metadata.version("lmcache")}
    write_catalogue(config_path, {**header, **config_catalogue()})
    server = server_catalogue()
    if server is not None:
        write_catalogue(server_path, {**header, **server})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
