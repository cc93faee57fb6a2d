"""Check a live process against the plan: the same program and environment."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from compiler.deploy.finding import Finding, failed, passed, skipped, warned
from compiler.deploy.probe.processes import Running
from compiler.process import Launch, Process, WithoutLmcache

_DECIDES = ("LMCACHE_", "VLLM_", "UCX_", "NIXL_", "DYN_", "PYTHONHASHSEED", "PROMETHEUS_MULTIPROC")
"""Variables that change what a process does with KV, and that no log tells of."""
_OWN = ("VLLM_API_KEY", "DYN_SYSTEM_")
_SECRET = re.compile(r"PASS|TOKEN(?!S)|KEY|SECRET")
_HOLDS_SECRET = re.compile(r"://[^/\s]*@|pass|token|secret|key", re.IGNORECASE)
_RESTART = "restart it with the bundle's launch.sh or systemd units, whose environment is closed"


def as_built(
    process: Process, alive: Running | None, given: Collection[str] = ()
) -> Iterator[Finding]:
    """Judge one process; alive is None where nothing that may be seen listens on its ports.

    given: variables that whoever started it sets beside the plan's.
    """
    name = process.name
    if alive is None:
        yield from _not_there(process)
        return
    form = form_of(process, alive)
    if form in ("unseen", "renamed"):
        yield skipped("as-built", name, _hidden(alive))
        return
    if form == "off":
        yield failed(
            "as-built",
            name,
            "runs its form without LMCache (ENABLE_LMCACHE=0): nothing is cached",
            "start it without ENABLE_LMCACHE=0",
        )
    elif form == "switched":
        yield warned(
            "as-built",
            name,
            f"a launch-time switch is on: {_switched(process, alive.argv)}",
            "to keep it, write it in the profile and build again",
        )
    environment = _launch(process, form).env if form == "off" else process.env
    given = (*given, *process.secrets)  # read from files when it starts; their values are not shown
    left_out = (*process.switch_env, *(name for name in given if name not in environment))
    wrong = list(_wrong(environment, alive.environment, left_out))
    if form == "other":  # nobody promised that it sets the same
        wrong = [text for text in wrong if "is missing from" not in text]
    for text in wrong:
        yield failed("as-built", name, text, _RESTART)
    if form == "built" and not wrong:
        seen = "program" if alive.environment is None else "program and environment"
        yield passed("as-built", name, f"{seen} as built (pid {alive.pid})")
    elif form == "other":
        yield warned(
            "as-built",
            name,
            f"pid {alive.pid} on its port is not this bundle's: {' '.join(alive.argv)[:120]}",
            "dync build and start it again, or name the bundle that runs",
        )


def _not_there(process: Process) -> Iterator[Finding]:
    if process.without_lmcache is WithoutLmcache.NOT_STARTED:
        yield failed(
            "as-built",
            process.name,
            f"no cache server listens on port {process.ready.port}: its workers cache nothing",
            "start it; with ENABLE_LMCACHE=0 it is left out",
        )
    else:
        yield failed(
            "as-built",
            process.name,
            f"nothing listens on its port {process.ready.port}",
            "start the deployment, and see its log: dync logs BUNDLE " + process.name,
        )


def _hidden(alive: Running) -> str:
    """Say why a process cannot be checked against the plan.

    vllm-router 0.1.17 calls itself vllm::router (seen), over its arguments and environment.
    """
    if not alive.pid:
        return "another account's process listens on its port: run this as that account, or as root"
    return f"pid {alive.pid} calls itself {alive.argv[0]!r}: its arguments and environment are gone"


def form_of(process: Process, alive: Running) -> str:
    """Return which form runs: built, off, switched (by a launch-time switch), renamed, or other.

    off: without LMCache; renamed: it wrote over its arguments; unseen: another account's; other:
    another program. Where both forms have one argv, the environment tells them apart.
    """
    if not alive.pid:
        return "unseen"
    if len([word for word in alive.argv if word]) == 1 < len(process.argv):
        return "renamed"
    off, argv = process.without_lmcache, alive.argv
    if isinstance(off, Launch) and argv == off.argv:
        nearer = len(list(_wrong(off.env, alive.environment, ())))
        if argv != process.argv or nearer < len(list(_wrong(process.env, alive.environment, ()))):
            return "off"
    if argv == process.argv:
        return "built"
    at = set(process.switch_argv.values())
    same = len(argv) == len(process.argv) and all(
        left == right or index in at
        for index, (left, right) in enumerate(zip(argv, process.argv, strict=True))
    )
    return "switched" if same else "other"


def is_switched(process: Process, alive: Running) -> bool:
    """Return whether a launch-time switch makes a process differ from what was built."""
    live = alive.environment
    return form_of(process, alive) in ("off", "switched") or any(
        live is not None and live.get(name) != process.env.get(name) for name in process.switch_env
    )


def _switched(process: Process, argv: tuple[str, ...]) -> str:
    return ", ".join(
        f"{name}={argv[index]} (built {process.argv[index]})"
        for name, index in process.switch_argv.items()
        if argv[index] != process.argv[index]
    )


def _launch(process: Process, form: str) -> Launch | Process:
    off = process.without_lmcache
    return off if form == "off" and isinstance(off, Launch) else process


def _wrong(
    built: Mapping[str, str], live: Mapping[str, str] | None, switches: tuple[str, ...]
) -> Iterator[str]:
    """List the deciding variables that differ from the plan; secrets' values are never shown."""
    if live is None:
        return
    for name in sorted({*built, *live}):
        if not name.startswith(_DECIDES) or name.startswith(_OWN) or name in switches:
            continue
        if name not in built:
            value = _shown(name, live[name])
            yield f"{name}={value} is in its environment; the bundle does not set it"
        elif name not in live:
            yield f"{name} is missing from its environment; the bundle sets {built[name]}"
        elif live[name] != built[name]:
            value = _shown(name, live[name])
            yield f"{name}={value} in its environment; the bundle sets {built[name]}"


def _shown(name: str, value: str) -> str:
    """Return a variable's value for a person to read; what may hold a secret is left out."""
    hides = _SECRET.search(name) or _HOLDS_SECRET.search(value)
    return "…" if hides else value[:80]
