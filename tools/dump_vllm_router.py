"""Write the options of ``vllm-router`` as JSON.

Run by ``catalogue.py`` under an interpreter that can import it: ``dump_vllm_router.py OUT.json``.
Reads vllm-router 0.1.17, vllm_router/router_args.py, ``RouterArgs.add_cli_args``.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from typing import Any

import native_stubs
from flag_catalogue import CallableTypes, describe_options, write_catalogue

# vllm_router/router_args.py reads this text as JSON after parsing.
JSON_OPTIONS = {"program_scheduling_config_json": ["object"]}


def main(path: str) -> None:
    """Write the catalogue."""
    native_stubs.install("vllm_router_rs")
    module: Any = importlib.import_module("vllm_router.router_args")
    parser = argparse.ArgumentParser()
    module.RouterArgs.add_cli_args(parser, use_router_prefix=False)
    known = CallableTypes()
    catalogue = {
        "package": "vllm-router",
        "version": importlib.metadata.version("vllm-router"),
        "source": "vllm_router.router_args.RouterArgs.add_cli_args",
        "options": describe_options(parser._actions, known, JSON_OPTIONS),
        "unmapped": sorted(known.unmapped),
    }
    write_catalogue(path, catalogue)


if __name__ == "__main__":
    main(sys.argv[1])
