"""Emit systemd's units: a target, a service for each process, one that ends when all serve."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from compiler.bundle_paths import SERVICE_SCRIPT
from compiler.emit.artifact import Artifact, header
from compiler.emit.quoting import (
    printf_escapes,
    unit_assignment,
    unit_carries,
    unit_path,
    unit_runs,
    unit_word,
)
from compiler.emit.render import Renderer
from compiler.emit.systemd.drivers import drivers, emit_drivers
from compiler.emit.systemd.sandbox import FIRST_FREE_PORT, LIMITS, NET_BIND, sandbox
from compiler.emit.systemd.unit_names import (
    process_unit,
    registrations_unit,
    serving_unit,
    target_unit,
    unit_environment,
)
from compiler.emit.systemd.views import (
    MANAGERS,
    RegistrationsView,
    ServiceView,
    ServingView,
    TargetView,
    UnitManager,
)
from compiler.emit.tiers import folder_words, folders, server_checks
from compiler.plan import Plan
from compiler.process import API_KEY, Kind, Process, Protocol

RESTART_S = {Kind.STORE: 2, Kind.CACHE_SERVER: 5, Kind.WORKER: 10, Kind.FRONTEND: 2, Kind.PROXY: 2}
_SHARES_MEMORY = (Kind.STORE, Kind.CACHE_SERVER, Kind.WORKER)
PERSIST_S = 200
"""How long a process that fails at once is tried again. A GPU that a dead worker's cache server
still holds comes free after up to 36 s, or 130 s with the server's own reap time."""
START_LIMIT_S = 1800
GPU_WITHIN_S = 60
START_MARGIN_S = 30
_SHELL = "/bin/bash"


def emit_systemd(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit the units for the system's manager, and beside them those for a user's own."""
    lines = header(plan)
    for process in plan.processes:
        unit, command = process_unit(plan.name, process.name), _command(process)
        for manager in MANAGERS:
            view = _service(plan, process, manager, lines, command)
            text = renderer.render("service.j2", view)
            yield Artifact(path=f"{manager.folder}/{unit}", text=text)
    for manager in MANAGERS:
        yield from emit_drivers(plan, manager, renderer)
        if plan.registrations:
            text = renderer.render("registrations.service.j2", _registrations(plan, manager))
            yield Artifact(path=f"{manager.folder}/{registrations_unit(plan.name)}", text=text)
        text = renderer.render("serving.service.j2", _serving(plan, manager))
        yield Artifact(path=f"{manager.folder}/{serving_unit(plan.name)}", text=text)
        text = renderer.render("target.j2", _target(plan, manager))
        yield Artifact(path=f"{manager.folder}/{target_unit(plan.name)}", text=text)
    yield Artifact(path=SERVICE_SCRIPT, text=renderer.static(SERVICE_SCRIPT))


def system_unit_text(
    plan: Plan, process: Process, renderer: Renderer, lines: tuple[str, ...]
) -> str:
    """Return the system's unit of one process; lines: those that open every file."""
    return renderer.render("service.j2", system_unit_view(plan, process, lines))


def system_unit_view(plan: Plan, process: Process, lines: tuple[str, ...]) -> ServiceView:
    """Return the fields of the system's unit of one process."""
    manager = next(manager for manager in MANAGERS if manager.is_system)
    return _service(plan, process, manager, lines, _command(process))


def _service(
    plan: Plan, process: Process, manager: UnitManager, lines: tuple[str, ...], command: str
) -> ServiceView:
    role = process.role.value if process.role else process.kind.value.replace("_", " ")
    restart_s = RESTART_S[process.kind]
    ready = process.ready
    probe = (ready.path, ready.body, _key_of(process))
    words = ("ready", str(ready.timeout_s), ready.host, str(ready.port), *probe)
    return ServiceView(
        header=lines,
        description=f"dync {plan.name}: {process.name} ({role})",
        readme=f"{_home(plan)}/current/README.md",
        target=target_unit(plan.name),
        part_of=_caches(plan, process),
        wants=(
            *_network(manager),
            *drivers(plan, process, manager),
            *_keeper(plan),
            *_units(plan, process),
        ),
        after=(*_network(manager), *drivers(plan, process, manager), *_units(plan, process)),
        start_limit_s=START_LIMIT_S,
        start_limit_tries=math.ceil(PERSIST_S / restart_s),
        identifier=f"dync-{plan.name}-{process.name}",
        account=_account(plan, manager),
        folder=f"{_home(plan)}/current",
        environment=_environment(plan, process, manager),
        environment_file=f"{_home(plan)}/environment",
        credentials=_credentials(process),
        before=_before(plan, process),
        command=command,
        ready=_library(*words),
        afterwards=(_library("sweep"),) if process.kind in _SHARES_MEMORY else (),
        start_timeout_s=ready.timeout_s + START_MARGIN_S,
        stop_timeout_s=process.stop_s,
        restart_s=restart_s,
        limits=(*_folders(plan, process, manager), *LIMITS),
        sandbox=(
            *sandbox(uses_gpu=bool(process.gpus), is_system=manager.is_system),
            *_writable(process, manager),
            *_low_port(process, manager),
        ),
    )


def _key_of(process: Process) -> str:
    """Return what a process that asks for a key is told to be called ready.

    own: the key that it was started with, as it stands in its environment, since systemd 252 lets
    ExecStartPost= not read credentials (run). refused: one that hands keys on has none, and is
    ready once it refuses a request without; the serving unit sends the key.
    """
    if not process.ready.key_file or process.ready.protocol is not Protocol.HTTP:
        return ""
    return "own" if API_KEY in process.secrets else "refused"


def _home(plan: Plan) -> str:
    """%E is /etc for the system's manager and ~/.config for a user's: one place, by name alone."""
    return f"%E/dync/{plan.name}"


def _network(manager: UnitManager) -> tuple[str, ...]:
    return ("network-online.target",) if manager.is_system else ()


def _units(plan: Plan, process: Process) -> tuple[str, ...]:
    return tuple(process_unit(plan.name, name) for name in process.after)


def _keeper(plan: Plan) -> tuple[str, ...]:
    return (registrations_unit(plan.name),) if plan.registrations else ()


def _caches(plan: Plan, process: Process) -> tuple[str, ...]:
    """Return the cache servers that a worker restarts with: it does not notice a new one.

    Source: LMCache 0.5.6, multiprocess/modules/management.py, ping: True also for a worker
    that this server has never seen.
    """
    server = plan.cache_server_of(process)
    return () if server is None else (process_unit(plan.name, server.name),)


def _account(plan: Plan, manager: UnitManager) -> tuple[str, ...]:
    return (f"User={plan.user}",) if manager.is_system else ()


def _folders(plan: Plan, process: Process, manager: UnitManager) -> tuple[str, ...]:
    caches = f"CacheDirectory=dync/{plan.name}/{process.name} dync/{plan.name}/huggingface"
    runtime = f"RuntimeDirectory=dync-{plan.name}/{process.name}"
    if manager.is_system:
        return (_state(plan, manager), caches, runtime)
    return (f"{caches} dync/{plan.name}/run", runtime)


def _state(plan: Plan, manager: UnitManager) -> str:
    """Return the folder that processes share, `run`.

    A user's StateDirectory= is below ~/.config in systemd 252, where the generations are.
    """
    if manager.is_system:
        return f"StateDirectory=dync/{plan.name} dync/{plan.name}/run"
    return f"CacheDirectory=dync/{plan.name}/run"


def _environment(plan: Plan, process: Process, manager: UnitManager) -> tuple[str, ...]:
    """Return what the host adds, then the plan's own, which wins where both set a variable."""
    host = unit_environment(plan.name, process, is_system=manager.is_system)
    own = process.env if _carried(process) else {}
    return (
        *(f'"{name}={value}"' for name, value in host.items() if name not in process.env),
        *(unit_assignment(name, value) for name, value in own.items()),
    )


def _carried(process: Process) -> bool:
    """Return whether the unit itself can hold the process's argv and environment."""
    texts = (*process.argv, *process.env.values())
    return unit_runs(process.argv[0]) and all(map(unit_carries, texts))


def _command(process: Process) -> str:
    if _carried(process) and not process.secrets:
        return " ".join(map(unit_word, process.argv))
    env = () if _carried(process) else tuple(f"{k}={v}" for k, v in process.env.items())
    words = (*map(printf_escapes, env), "--", *map(printf_escapes, process.argv))
    return _library("run", *process.secrets, "--", *words)


def _library(*words: str) -> str:
    return " ".join((_SHELL, SERVICE_SCRIPT, *map(unit_word, words)))


def _credentials(process: Process) -> tuple[str, ...]:
    return tuple(f"{name}:{unit_path(file)}" for name, file in process.secrets.items())


def _before(plan: Plan, process: Process) -> tuple[str, ...]:
    return (
        *((_library("gpus", str(GPU_WITHIN_S), *process.gpus),) if process.gpus else ()),
        *(_library("folder", *folder_words(tier)) for tier in folders(process)),
        *(
            _library(
                "server",
                check.host,
                str(check.port),
                check.username,
                check.secret,
                str(check.within_s),
                "required" if check.required else "",
                check.file,
                process_unit(plan.name, check.store) if check.store else "",
            )
            for check in server_checks(plan, process)
        ),
    )


def _writable(process: Process, manager: UnitManager) -> tuple[str, ...]:
    """Let a process write its tiers' folders, wherever the sandbox has made them read-only."""
    if not manager.is_system:
        return ()
    return tuple(f'ReadWritePaths="-{unit_path(tier.folder)}"' for tier in folders(process))


def _low_port(process: Process, manager: UnitManager) -> tuple[str, ...]:
    """Let a proxy listen below 1024, the one thing that root does there."""
    is_low = process.kind is Kind.PROXY and process.listens[0].port < FIRST_FREE_PORT
    return NET_BIND if is_low and manager.is_system else ()


def _serving(plan: Plan, manager: UnitManager) -> ServingView:
    front = plan.api
    key_file = plan.api_key_file if plan.api_asks_key else ""
    secrets = {API_KEY: key_file} if key_file else {}
    secret = next(iter(secrets), "")
    units = tuple(process_unit(plan.name, process.name) for process in plan.processes)
    within_s = max(process.ready.timeout_s for process in plan.processes) + front.ready.timeout_s
    body = json.dumps({"model": plan.served_name, "prompt": "Hello", "max_tokens": 1})
    asked = (front.ready.host, str(front.ready.port), body, secret)
    words = (str(within_s), *asked, process_unit(plan.name, front.name), *units)
    return ServingView(
        header=header(plan),
        description=f"dync {plan.name}: wait until it serves",
        readme=f"{_home(plan)}/current/README.md",
        target=target_unit(plan.name),
        processes=units,
        identifier=f"dync-{plan.name}-serving",
        account=_account(plan, manager),
        folder=f"{_home(plan)}/current",
        credentials=tuple(f"{name}:{unit_path(file)}" for name, file in secrets.items()),
        command=_library("serving", *words),
        start_timeout_s=within_s + START_MARGIN_S,
        sandbox=sandbox(uses_gpu=False, is_system=manager.is_system),
    )


def _registrations(plan: Plan, manager: UnitManager) -> RegistrationsView:
    return RegistrationsView(
        header=header(plan),
        description=f"dync {plan.name}: put back what a pause of the host made expire",
        readme=f"{_home(plan)}/current/README.md",
        target=target_unit(plan.name),
        identifier=f"dync-{plan.name}-registrations",
        account=_account(plan, manager),
        folder=f"{_home(plan)}/current",
        command=_library("keep", plan.registrations),
        limits=(_state(plan, manager),),
        sandbox=sandbox(uses_gpu=False, is_system=manager.is_system),
    )


def _target(plan: Plan, manager: UnitManager) -> TargetView:
    return TargetView(
        header=header(plan),
        description=f"dync {plan.name}",
        readme=f"{_home(plan)}/current/README.md",
        serving=serving_unit(plan.name),
        wanted_by=manager.wanted_by,
    )
