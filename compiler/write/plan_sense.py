"""Refuse a plan whose parts are right and do not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from compiler.plan import Plan
from compiler.process import Kind, Launch, Process, ProcessName, Tier
from compiler.resolve.system_folders import is_within, plain, system_folder
from compiler.write.strict_json import NotStrict, shown


def refuse_senseless(plan: Plan) -> None:
    """Refuse what every reader of a plan takes for granted.

    Errors: NotStrict.
    """
    known: set[ProcessName] = set()
    for number, process in enumerate(plan.processes):
        for where, why in _faults(process, known):
            raise NotStrict(f"processes.{number}.{where}: {why}")
        known.add(process.name)
    if not plan.workers:
        raise NotStrict("processes: no worker among them")
    if len(PurePosixPath(plan.stack_program).parents) < _ABOVE_A_PROGRAM:
        raise NotStrict(
            f"processes: {shown(plan.stack_program)}, expected PREFIX/stacks/STACK/bin/PROGRAM"
        )
    stacks = str(PurePosixPath(plan.stack_program).parents[2])
    for folder in (tier.folder for process in plan.processes for tier in process.tiers):
        if folder and is_within(plain(folder), plain(stacks)):
            raise NotStrict(f"processes: the tier's folder {shown(folder)} is among the stacks")


_ABOVE_A_PROGRAM = 4
_CACHING = (Kind.CACHE_SERVER, Kind.WORKER)
_PROXY_LISTENS = 2  # for clients, and where it is asked whether it is ready


def _faults(process: Process, known: set[ProcessName]) -> Iterator[tuple[str, str]]:
    if process.name in known:
        yield "name", f"{shown(process.name)} is there twice"
    for name in process.after:
        if name not in known:
            yield "after", f"{shown(name)} is no process before it"
    if (process.role is None) != (process.kind is not Kind.WORKER):
        yield "role", "expected one of a worker, and of nothing else"
    for variable, index in process.switch_argv.items():
        if index >= len(process.argv):
            yield f"switch_argv.{variable}", f"there is no word {index} in argv"
    off = process.without_lmcache
    for where, launch in (("", process.launch), ("without_lmcache.", off)):
        if isinstance(launch, Launch):
            yield from ((f"{where}{part}", why) for part, why in _launch_faults(launch))
    if process.kind is Kind.PROXY:
        yield from _proxy_faults(process)
    if process.tiers and process.kind not in _CACHING:
        yield "tiers", "expected none: neither a cache server nor a worker"
    for number, tier in enumerate(process.tiers):
        yield from ((f"tiers.{number}.{at}", why) for at, why in _tier_faults(process, tier))


def _tier_faults(process: Process, tier: Tier) -> Iterator[tuple[str, str]]:
    if tier.folder and system_folder(tier.folder):
        yield "folder", f"{shown(tier.folder)} is the system's"
    secret = tier.server.secret if tier.server else ""
    if secret and secret not in process.secrets:
        yield "server.secret", f"{shown(secret)} is none of its secrets"


def _proxy_faults(process: Process) -> Iterator[tuple[str, str]]:
    """Look for what a proxy's configuration is made of."""
    if len(process.listens) != _PROXY_LISTENS:
        yield "listens", f"expected {_PROXY_LISTENS} of a proxy"
    for name, least in (("max_request_mb", 1), ("drain_s", 0)):
        value = process.launch.engine_args.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            yield f"engine_args.{name}", f"{shown(value)}, expected a whole number from {least}"


def _launch_faults(launch: Launch) -> Iterator[tuple[str, str]]:
    if not launch.argv[0].startswith("/"):
        yield "argv.0", f"{shown(launch.argv[0])}, expected an absolute path"
    yield from _connector_faults(launch.kv_transfer_config)
    ranks = launch.engine_args.get("tensor_parallel_size", 1)
    if not isinstance(ranks, int) or not 0 < ranks <= 1024:
        yield "engine_args.tensor_parallel_size", f"{shown(ranks)}, expected a number of GPUs"


def _connector_faults(config: Any) -> Iterator[tuple[str, str]]:
    """Look at each connector that connectors_of() would read."""
    todo: list[Any] = [config] if config else []
    while todo:
        item = todo.pop()
        extra = item.get("kv_connector_extra_config") if isinstance(item, Mapping) else None
        children = extra.get("connectors") if isinstance(extra, Mapping) else None
        if isinstance(children, list):
            todo += children
        elif not isinstance(item, Mapping) or not isinstance(item.get("kv_connector"), str):
            yield "kv_transfer_config", f"{shown(item)}, expected a connector with its name"
