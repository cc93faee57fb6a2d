"""Emit the files that engines read: vLLM's --config and LMCache's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.bundle_paths import engine_file, lmcache_file
from compiler.document import Json
from compiler.emit.artifact import Artifact, header
from compiler.emit.quoting import yaml_lines
from compiler.emit.render import Renderer
from compiler.plan import Plan
from compiler.process import KvSource, Launch


def emit_engine_files(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:  # noqa: ARG001
    """Emit engine/<worker>.yaml, its form without LMCache, and lmcache/<worker>.yaml."""
    lines = header(plan)
    for process in plan.workers:
        yield Artifact(path=engine_file(process.name), text=engine_text(process.launch, lines))
        if isinstance(process.without_lmcache, Launch):
            path = engine_file(process.name, with_lmcache=False)
            yield Artifact(path=path, text=engine_text(process.without_lmcache, lines))
        if process.launch.lmcache_config:
            text = lmcache_text(process.launch, lines)
            yield Artifact(path=lmcache_file(process.name), text=text)


def option_lines(launch: Launch) -> dict[str, Json]:
    """Return a worker's options by the flags of vLLM's --config file, nested connectors last.

    False becomes `no-FLAG: true`: vLLM 0.25 drops a false value silently.
    Source: vllm/utils/argparse_utils.py, load_config_file.
    """
    options: dict[str, Json] = {}
    for name, value in launch.engine_args.items():
        flag = name.replace("_", "-")
        options.update({f"no-{flag}": True} if value is False else {flag: value})
    if launch.kv_transfer_config and launch.kv_source is KvSource.ENGINE_FILE:
        options["kv-transfer-config"] = dict(launch.kv_transfer_config)
    return options


def engine_text(launch: Launch, lines: tuple[str, ...]) -> str:
    """Return vLLM's --config file of one form of a worker; lines: those that open every file."""
    return _yaml(option_lines(launch), lines)


def lmcache_text(launch: Launch, lines: tuple[str, ...]) -> str:
    """Return LMCache's configuration file of a worker that caches in its own process."""
    return _yaml(launch.lmcache_config, lines)


def _yaml(mapping: Mapping[str, Json], lines: tuple[str, ...]) -> str:
    return "\n".join((*(f"# {line}" for line in lines), *yaml_lines(mapping))) + "\n"
