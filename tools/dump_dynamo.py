"""Write the options of Dynamo's vLLM worker and frontend as JSON.

Run by ``catalogue.py`` under an interpreter that can import ai-dynamo and vLLM: ``dump_dynamo.py
ENGINE.json ENV.json WORKER.json FRONTEND.json``. Reads ai-dynamo 0.7 to 1.6: dynamo/vllm/args.py
and dynamo/frontend/main.py. The worker takes the options of vLLM's ``AsyncEngineArgs``, not those
of vLLM's API server: ENGINE.json has these, since its ``--config`` file holds nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

import native_stubs
from dump_vllm import ALSO_TAKES, TYPES, add_to, choose_cuda_platform, deprecation_messages
from flag_catalogue import CallableTypes, describe_options, write_catalogue

# dynamo/frontend/main.py, dynamo/frontend/frontend_args.py and dynamo/common/configuration, 0.7 to
# 1.6: text that is checked, a path, or a number for which a word stands.
OWN_TYPES = {
    "validate_model_name": ["string"],
    "validate_model_path": ["string"],
    "validate_static_endpoint": ["string"],
    "Path": ["string"],
    "parse_endpoint_types": ["string"],
    "_parse_structural_tag": ["object", "string"],
    "_conditional_disagg_config_arg": ["object"],
    "parse_ais_perf_config": ["object", "string"],
    "KvRouterArgGroup.add_arguments.<locals>.<lambda>": ["string"],  # renames one choice
    "nullable_float": ["number", "string"],
    "nullable_int": ["integer", "string"],
}


class Captured(Exception):
    """Carries a parser out of the function that builds it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(parse: Callable[[], Any]) -> argparse.ArgumentParser:
    """Return the parser that a ``parse_args`` function builds, without parsing anything."""

    def capture(self: argparse.ArgumentParser, *_args: object, **_kwargs: object) -> None:
        raise Captured(self)

    original = argparse.ArgumentParser.parse_known_args
    argparse.ArgumentParser.parse_known_args = capture  # type: ignore[method-assign,assignment]
    try:
        parse()
    except Captured as captured:
        return captured.parser
    finally:
        argparse.ArgumentParser.parse_known_args = original  # type: ignore[method-assign]
    raise SystemExit(f"{parse} parses nothing")


def write_options(
    path: str, source: str, actions: list[argparse.Action], header: dict[str, str]
) -> None:
    """Write the catalogue of one parser's options."""
    types = CallableTypes({**TYPES, **OWN_TYPES})
    options = describe_options(actions, types, ALSO_TAKES)
    if header["package"] == "vllm":
        messages = deprecation_messages(importlib.import_module("vllm.engine.arg_utils"))
        for key, text in messages.items():
            if key in options:
                options[key]["deprecated"] = text
        add_to(options, importlib.import_module("vllm"))
    unmapped = sorted(types.unmapped)
    write_catalogue(path, {**header, "source": source, "options": options, "unmapped": unmapped})


def main(engine_path: str, env_path: str, worker_path: str, frontend_path: str) -> None:
    """Write the four catalogues."""
    sys.argv = ["dynamo", "--help"]  # vLLM collects its help texts only then
    native_stubs.install("dynamo._core", "uvloop")
    choose_cuda_platform()
    vllm: Any = importlib.import_module("vllm")
    arguments: Any = importlib.import_module("dynamo.vllm.args")
    frontend: Any = importlib.import_module("dynamo.frontend.main")
    engine = arguments.FlexibleArgumentParser(add_help=False)
    arguments.AsyncEngineArgs.add_cli_args(engine)
    header = {"package": "vllm", "version": vllm.__version__.split("+")[0]}
    source = "vllm.engine.arg_utils.AsyncEngineArgs.add_cli_args"
    write_options(engine_path, source, engine._actions, header)
    table = importlib.import_module("vllm.envs").environment_variables
    names = sorted(name for name in table if name.startswith("VLLM_"))
    env_source = "vllm.envs.environment_variables"
    write_catalogue(env_path, {**header, "source": env_source, "names": names})
    header = {"package": "ai-dynamo", "version": importlib.metadata.version("ai-dynamo")}
    theirs = {action.dest for action in engine._actions}
    own = [item for item in parser_of(arguments.parse_args)._actions if item.dest not in theirs]
    write_options(worker_path, "dynamo.vllm.args.parse_args", own, header)
    actions = parser_of(frontend.parse_args)._actions
    write_options(frontend_path, "dynamo.frontend.main.parse_args", actions, header)


if __name__ == "__main__":
    main(*sys.argv[1:5])
