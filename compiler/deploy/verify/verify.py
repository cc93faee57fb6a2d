"""`dync verify`: prove on the running deployment that LMCache and NIXL do their work."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator
from dataclasses import replace

from compiler.deploy.deployment import Manager, Place
from compiler.deploy.finding import Finding, failed, passed, skipped, warned, worst
from compiler.deploy.logs import read_log
from compiler.deploy.probe.cache_server import server_status
from compiler.deploy.probe.drift import as_built, is_switched
from compiler.deploy.probe.processes import Running, running
from compiler.deploy.verify.ask import NotAnswered
from compiler.deploy.verify.design import choose
from compiler.deploy.verify.experiment import Probing, frontend_way
from compiler.deploy.verify.log_scan import scan
from compiler.deploy.verify.proof import ProcessProof, Proof
from compiler.deploy.verify.tier_counts import count_tiers, judge_tiers
from compiler.emit.systemd.unit_names import unit_environment
from compiler.plan import Kind, Process, ProcessName
from compiler.write import NotWritten, changed_files

_FIRST_TRIES = 3
"""The first handshake between two engines can fail on a busy machine."""


def verify(place: Place, tokens: int | None = None, timeout_s: float = 120) -> Proof:
    """Look at every process, send a new prompt and repeat it, and judge what came of it.

    tokens: about how long the prompt is to be. timeout_s: for one answer. Leaves at most two
    prompts in each cache.
    """
    begun, plan = time.monotonic(), place.plan
    alive = running(plan)
    findings = list(_standing(place, alive))
    chosen = choose(plan, alive, tokens, timeout_s)
    probing = chosen if isinstance(chosen, Probing) else None
    held = count_tiers(plan)
    if isinstance(chosen, Finding):
        findings.append(chosen)
    if probing is not None:
        try:
            _first_answer(probing)
            probing.run()
        except NotAnswered as error:
            findings.append(_unanswered(str(error)))
        findings += probing.findings
    findings += judge_tiers(plan, held, was_asked=bool(probing and probing.timings))
    findings += _logs(place)
    findings = [_for_here(finding, place) for finding in findings]
    return Proof(
        name=plan.name,
        url=plan.url,
        manager=place.manager.value,
        findings=tuple(findings),
        processes=tuple(_process(process, findings) for process in plan.processes),
        timings=tuple(probing.timings) if probing else (),
        transfers=tuple(probing.transfers) if probing else (),
        is_switched=any(
            item.name in alive and is_switched(item, alive[item.name]) for item in plan.processes
        ),
        took_s=time.monotonic() - begun,
    )


def _given(place: Place, process: Process) -> Collection[str]:
    """Give the variables that its unit sets, where units started it."""
    if place.manager is not Manager.SYSTEMD:
        return ()
    return unit_environment(place.plan.name, process, is_system=True)


def _standing(place: Place, alive: dict[ProcessName, Running]) -> Iterator[Finding]:
    """Look at every process as it stands: is it there, as built, and well."""
    for process in place.plan.processes:
        yield from as_built(process, alive.get(process.name), _given(place, process))
        if process.kind is Kind.CACHE_SERVER and process.name in alive:
            status = server_status(process)
            if status is None or not status.is_healthy:
                yield failed(
                    "cache-server",
                    process.name,
                    "does not answer /status" if status is None else "says that it is not well",
                    f"see its log: dync logs BUNDLE {process.name}",
                )
    yield from _bundle(place)
    if not place.plan.lmcache.enabled:
        yield warned(
            "lmcache", place.plan.name, "was built without LMCache", "lmcache.enabled: true"
        )


def _bundle(place: Place) -> Iterator[Finding]:
    """Say which files somebody changed: the plan no longer tells the truth about them."""
    try:
        changed = changed_files(place.folder)
    except NotWritten:
        return
    if changed:
        yield warned(
            "bundle",
            place.plan.name,
            f"changed since dync wrote it: {', '.join(changed)}",
            "change the profile instead, and build again",
        )


def _first_answer(probing: Probing) -> None:
    """Ask until something comes back, so that handshakes and compilations are over.

    Errors: NotAnswered.
    """
    for left in range(_FIRST_TRIES, 0, -1):
        try:
            probing.ask(frontend_way(probing.plan), "Hello")
        except NotAnswered as error:
            if left == 1:
                raise
            probing.findings.append(
                warned(
                    "prompt",
                    probing.plan.name,
                    f"a first prompt failed: {error}",
                    "none: tried again",
                )
            )
            time.sleep(2)
        else:
            return


def _unanswered(text: str) -> Finding:
    return failed("prompt", text.partition(" at ")[0], text, "see its log: dync logs BUNDLE")


def _logs(place: Place) -> Iterator[Finding]:
    scanned = []
    for process in place.plan.processes:
        text = read_log(place, process)
        if text is not None:
            scanned.append(process.name)
            yield from scan(process.name, text)
    if scanned:
        yield passed("log", place.plan.name, f"read the logs of {', '.join(scanned)}")
    else:
        yield skipped("log", place.plan.name, "no log is known of processes started by hand")


def _for_here(finding: Finding, place: Place) -> Finding:
    """Name the deployment in a command to type, as the operator named it."""
    return replace(finding, fix=finding.fix.replace("BUNDLE", shlex.quote(place.named)))


def _process(process: Process, findings: list[Finding]) -> ProcessProof:
    """Sum up what was found of one process; a tier's subject begins with its process."""
    own = worst(item for item in findings if item.subject.split(" ")[0] == process.name)
    return ProcessProof(name=process.name, verdict=own)
