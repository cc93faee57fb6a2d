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
        yield _engine_file(engine_file(process.name), process.launch, lines)
        if isinstance(process.without_lmcache, Launch):
            path = engine_file(process.name, with_lmcache=False)
            yield _engine_file(path, process.without_lmcache, lines)
        if process.launch.lmcache_config:
            text = _yaml(process.launch.lmcache_config, lines)
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


def _engine_file(path: str, launch: Launch, lines: tuple[str, ...]) -> Artifact:
    return Artifact(path=path, text=_yaml(option_lines(launch), lines))


def _yaml(mapping: Mapping[str, Json], lines: tuple[str, ...]) -> str:
    return "\n".join((*(f"# {line}" for line in lines), *yaml_lines(mapping))) + "\n"
