"""Write the options of vLLM's OpenAI API server, and its environment names, as JSON.

Run by ``catalogue.py`` under an interpreter that can import vLLM: ``dump_vllm.py OUT.json
OUT-env.json``. Reads vllm 0.25.1 (vllm/entrypoints/openai/cli_args.py) and 0.32.0
(vllm/entrypoints/launchers/cli_args.py); both build ``vllm serve``'s parser with
``make_arg_parser`` and keep their environment table in vllm/envs.py. Defaults are those of the
CUDA platform, which is chosen here whatever the machine has.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import native_stubs
from field_bounds import option_bounds
from flag_catalogue import CallableTypes, describe_options, write_catalogue

PARSER_MODULES = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
NATIVE_MODULES = (
    "vllm._C",
    "vllm._C_stable_libtorch",
    "vllm._moe_C",
    "vllm._moe_C_stable_libtorch",
)
# vllm/utils/argparse_utils.py and vllm/engine/arg_utils.py, 0.25.1 and 0.32.0. The lambdas spell
# a backend's name in lower case with underscores, or split a comma-separated device list.
TYPES = {
    "human_readable_int": ["integer", "string"],
    "human_readable_int_or_auto": ["integer", "string"],
    "union_dict_and_str": ["object", "string"],
    "_compute_kwargs.<locals>.parse_dataclass": ["object"],
    "EngineArgs.add_cli_args.<locals>.<lambda>": ["string"],
}

ALSO_TAKES = {"device_ids": ["integer"]}  # one GPU's number is a list of one

# What takes a deprecated option's place: vllm/engine/arg_utils.py, where the old one fills the new
# one (0.11.0 __post_init__, 0.16.0 enable_log_requests), or vLLM's own message.
REPLACED_BY = {
    "disable_cascade_attn": "remove it: it has no effect",
    "disable_log_requests": "remove it: requests are logged only with enable_log_requests",
    "eplb_log_balancedness": "write eplb_config: {log_balancedness: ...}",
    "eplb_step_interval": "write eplb_config: {step_interval: ...}",
    "eplb_window_size": "write eplb_config: {window_size: ...}",
    "guided_decoding_backend": "write structured_outputs_config: {backend: ...}",
    "guided_decoding_disable_additional_properties": "write structured_outputs_config: "
    "{disable_additional_properties: ...}",
    "guided_decoding_disable_any_whitespace": "write structured_outputs_config: "
    "{disable_any_whitespace: ...}",
    "guided_decoding_disable_fallback": "write structured_outputs_config: {disable_fallback: ...}",
    "log_config_file": "write logging_config: {pylogging_config_file: ...}",
    "num_redundant_experts": "write eplb_config: {num_redundant_experts: ...}",
    "override_pooler_config": "write pooler_config: ...",
    "task": "write runner and convert",
}


def choose_cuda_platform() -> None:
    """Make vLLM take the defaults of a CUDA host without one."""
    native_stubs.install(*NATIVE_MODULES)
    platforms = importlib.import_module("vllm.platforms")
    cuda = importlib.import_module("vllm.platforms.cuda")
    platforms._current_platform = cuda.NonNvmlCudaPlatform()  # type: ignore[attr-defined]


def parser_actions() -> tuple[str, list[argparse.Action]]:
    """Build the server's parser; return the function's dotted name and the actions."""
    utils = importlib.import_module("vllm.utils.argparse_utils")
    for name in PARSER_MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if not name.startswith(missing.name or " "):
                raise
            continue
        parser = module.make_arg_parser(utils.FlexibleArgumentParser())
        return f"{name}.make_arg_parser", parser._actions
    raise SystemExit(f"no module of {PARSER_MODULES} in this vLLM; find make_arg_parser, add it")


def deprecation_messages(engine_args: Any) -> dict[str, str]:
    """Return the deprecation texts the code keeps in constants, by option key.

    Source: vllm/engine/arg_utils.py, 0.32.0, ``_*_DEPRECATION_MESSAGE``.
    """
    messages = {}
    for name, text in vars(engine_args).items():
        if name.endswith("_DEPRECATION_MESSAGE") and text.startswith("--"):
            messages[text.split()[0][2:].replace("-", "_")] = text
    return messages


def add_to(options: dict[str, dict[str, Any]], vllm: Any) -> None:
    """Add what replaces a deprecated option, and the bounds that this vLLM sets to numbers."""
    for key, option in options.items():
        if option.get("deprecated") and key in REPLACED_BY:
            option["replaced_by"] = REPLACED_BY[key]
    for key, bounds in option_bounds(Path(vllm.__path__[0])).items():
        if key in options:
            options[key]["bounds"] = bounds


def main(options_path: str, env_path: str) -> None:
    """Write both catalogues."""
    sys.argv = ["vllm", "--help"]  # vLLM collects its help texts only then
    choose_cuda_platform()
    vllm = importlib.import_module("vllm")
    header = {"package": "vllm", "version": vllm.__version__.split("+")[0]}
    types = CallableTypes(TYPES)
    source, actions = parser_actions()
    options = describe_options(actions, types, ALSO_TAKES)
    messages = deprecation_messages(importlib.import_module("vllm.engine.arg_utils"))
    for key, text in messages.items():
        options[key]["deprecated"] = text
    add_to(options, vllm)
    unmapped = sorted(types.unmapped)
    write_catalogue(
        options_path, {**header, "source": source, "options": options, "unmapped": unmapped}
    )
    table = importlib.import_module("vllm.envs").environment_variables
    names = sorted(name for name in table if name.startswith("VLLM_"))
    source = "vllm.envs.environment_variables"
    write_catalogue(env_path, {**header, "source": source, "names": names})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
