"""Emit the files that engines read: vLLM's --config and LMCache's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.document import Json
from compiler.emit.artifact import Artifact, header
from compiler.emit.quoting import yaml_lines
from compiler.emit.render import Renderer
from compiler.plan import Kind, KvSource, Launch, Plan, Process


def emit_engine_files(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:  # noqa: ARG001
    """Emit engine/<worker>.yaml, its form without LMCache, and lmcache/<worker>.yaml."""
    lines = header(plan)
    for process in plan.processes:
        if process.kind is not Kind.WORKER:
            continue
        yield _engine_file(f"engine/{process.name}.yaml", process, lines)
        if isinstance(process.without_lmcache, Launch):
            path = f"engine/{process.name}.no-lmcache.yaml"
            yield _engine_file(path, process.without_lmcache, lines)
        if process.lmcache_config:
            text = _yaml(process.lmcache_config, lines)
            yield Artifact(path=f"lmcache/{process.name}.yaml", text=text)


def option_lines(launch: Process | Launch) -> dict[str, Json]:
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


def _engine_file(path: str, launch: Process | Launch, lines: tuple[str, ...]) -> Artifact:
    return Artifact(path=path, text=_yaml(option_lines(launch), lines))


def _yaml(mapping: Mapping[str, Json], lines: tuple[str, ...]) -> str:
    return "\n".join((*(f"# {line}" for line in lines), *yaml_lines(mapping))) + "\n"
