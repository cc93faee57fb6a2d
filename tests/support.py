"""What several test modules need: reading profiles from memory, and where things lie."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from compiler.library import library
from compiler.load.compose import Reader, Unreadable
from compiler.pipeline import Compiled, compile_profile
from compiler.plan import Plan
from compiler.process import Process

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "profiles"
Tree = Mapping[str, str]
CompareTree = Callable[[Path, Tree], None]
AGG = """\
name: one
stack: vllm-0.32
topology: agg
model: {id: Qwen/Qwen3-0.6B}
workers: [{role: aggregated, gpus: [0]}]
"""
IN_PROCESS = ("stack=vllm-0.25", "lmcache.mode=in_process")
"""On a stack where LMCache inside the worker is right."""
DISAGG = """\
name: pair
stack: vllm-0.32
topology: disagg
model: {id: Qwen/Qwen3-0.6B}
workers:
  - {role: prefill, gpus: [0]}
  - {role: decode, gpus: [1]}
"""


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nothing listens on."""
    with ExitStack() as held:
        found = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in found]


def free_port() -> int:
    """Return one such port."""
    return free_ports(1)[0]


def reader_of(texts: Mapping[str, str]) -> Reader:
    """Read from memory, then from the folder of ready profiles."""

    def read(name: str) -> str:
        if name in texts:
            return texts[name]
        if (PROFILES / name).is_file():
            return (PROFILES / name).read_text("utf-8")
        raise Unreadable("No such file or directory")

    return read


def compile_text(text: str, *overrides: str, also: Mapping[str, str] | None = None) -> Compiled:
    """Compile a profile given as text, which may extend a ready one."""
    texts = {"profile.yaml": text, **(also or {})}
    return compile_profile("profile.yaml", reader_of(texts), overrides, library())


def plan_of(text: str, *overrides: str) -> Plan:
    """Compile a profile that must have no error."""
    return plan_in(compile_text(text, *overrides))


def plan_in(compiled: Compiled) -> Plan:
    assert compiled.resolved is not None, compiled.diagnostics
    return compiled.resolved.plan


def compile_file(path: Path, overrides: Iterable[str] = ()) -> Compiled:
    """Compile a profile on disk, as the command line does."""
    return compile_profile(
        str(path), lambda name: Path(name).read_text("utf-8"), overrides, library()
    )


def with_launch(process: Process, **changes: Any) -> Process:
    """Return a process whose launch differs: argv, env, engine_args."""
    return replace(process, launch=replace(process.launch, **changes))
