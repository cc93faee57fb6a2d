"""`dync verify`: prove on the running deployment that LMCache and NIXL do their work."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from compiler.deploy.deployment import Deployment, Manager
from compiler.deploy.finding import Finding, failed, passed, skipped, warned, worst
from compiler.deploy.logs import read_log
from compiler.deploy.probe.cache_server import server_status
from compiler.deploy.probe.drift import as_built, is_switched
from compiler.deploy.probe.owners import held_by_others, ownership
from compiler.deploy.probe.processes import Running, running
from compiler.deploy.verify.ask import NotAnswered
from compiler.deploy.verify.design import choose
from compiler.deploy.verify.experiment import Experiment, frontend_endpoint
from compiler.deploy.verify.log_scan import scan
from compiler.deploy.verify.proof import ProcessProof, Proof
from compiler.deploy.verify.tier_counts import count_tiers, judge_tiers
from compiler.emit.systemd.unit_names import unit_environment
from compiler.process import Kind, Process, ProcessName
from compiler.stacks.tier_specs import TierSpecs
from compiler.write.bundle import changed_files
from compiler.write.manifest import NotWritten

_FIRST_TRIES = 3
"""The first handshake between two engines can fail on a busy machine."""


def verify(
    deployment: Deployment, specs: TierSpecs, tokens: int | None = None, timeout_s: float = 120
) -> Proof:
    """Look at every process, send a new prompt and repeat it, and judge what came of it.

    specs: what its stack says of each kind of tier. tokens: about how long the prompt is to be.
    timeout_s: for one answer. The prompts that it sends stay in the caches.
    """
    begun, plan = time.monotonic(), deployment.plan
    own = ownership(deployment)
    strangers = held_by_others(plan, own)
    alive = {name: item for name, item in running(plan).items() if name not in strangers}
    findings = list(_standing(deployment, alive, strangers))
    chosen = choose(plan, alive, tokens, timeout_s, own)
    experiment = chosen if isinstance(chosen, Experiment) else None
    held = count_tiers(plan, specs, own)
    if isinstance(chosen, Finding):
        findings.append(chosen)
    if experiment is not None:
        try:
            _first_answer(experiment)
            experiment.run()
        except NotAnswered as error:
            findings.append(_unanswered(str(error)))
        findings += experiment.findings
    findings += judge_tiers(
        plan, specs, held, own, was_asked=bool(experiment and experiment.timings)
    )
    findings += _logs(deployment)
    findings = [_for_here(finding, deployment) for finding in findings]
    return Proof(
        name=plan.name,
        url=plan.url,
        manager=deployment.manager.value,
        findings=tuple(findings),
        processes=tuple(_process(process, findings) for process in plan.processes),
        timings=tuple(experiment.timings) if experiment else (),
        transfers=tuple(experiment.transfers) if experiment else (),
        is_switched=any(
            item.name in alive and is_switched(item, alive[item.name]) for item in plan.processes
        ),
        took_s=time.monotonic() - begun,
    )


def _given(deployment: Deployment, process: Process) -> Collection[str]:
    """Return the variables that its unit sets, where units started it."""
    if deployment.manager is not Manager.SYSTEMD:
        return ()
    return unit_environment(deployment.plan.name, process, is_system=True)


def _standing(
    deployment: Deployment,
    alive: dict[ProcessName, Running],
    strangers: Mapping[ProcessName, str],
) -> Iterator[Finding]:
    """Look at every process as it stands: is it there, as built, and well."""
    for process in deployment.plan.processes:
        if process.name in strangers:
            why = strangers[process.name]
            yield failed("ports", process.name, why, "end that process, and start again")
            continue
        yield from as_built(process, alive.get(process.name), _given(deployment, process))
        if process.kind is Kind.CACHE_SERVER and process.name in alive:
            status = server_status(process)
            if status is None or not status.is_healthy:
                yield failed(
                    "cache-server",
                    process.name,
                    "does not answer /status" if status is None else "says that it is not well",
                    f"see its log: dync logs BUNDLE {process.name}",
                )
    yield from _bundle(deployment)
    if not deployment.plan.lmcache.enabled:
        yield warned(
            "lmcache", deployment.plan.name, "was built without LMCache", "lmcache.enabled: true"
        )


def _bundle(deployment: Deployment) -> Iterator[Finding]:
    """Say which files somebody changed: the plan no longer tells the truth about them."""
    try:
        changed = changed_files(deployment.folder)
    except NotWritten:
        return
    if changed:
        yield warned(
            "bundle",
            deployment.plan.name,
            f"changed since dync wrote it: {', '.join(changed)}",
            "change the profile instead, and build again",
        )


def _first_answer(experiment: Experiment) -> None:
    """Ask until something comes back, so that handshakes and compilations are over.

    Errors: NotAnswered.
    """
    for left in range(_FIRST_TRIES, 0, -1):
        try:
            experiment.ask(frontend_endpoint(experiment.plan), "Hello")
        except NotAnswered as error:
            if left == 1:
                raise
            experiment.findings.append(
                warned(
                    "prompt",
                    experiment.plan.name,
                    f"a first prompt failed: {error}",
                    "none: tried again",
                )
            )
            time.sleep(2)
        else:
            return


def _unanswered(text: str) -> Finding:
    return failed("prompt", text.partition(" at ")[0], text, "see its log: dync logs BUNDLE")


def _logs(deployment: Deployment) -> Iterator[Finding]:
    scanned = []
    for process in deployment.plan.processes:
        text = read_log(deployment, process)
        if text is not None:
            scanned.append(process.name)
            yield from scan(process.name, text)
    if scanned:
        yield passed("log", deployment.plan.name, f"read the logs of {', '.join(scanned)}")
    else:
        yield skipped("log", deployment.plan.name, "no log is known of processes started by hand")


def _for_here(finding: Finding, deployment: Deployment) -> Finding:
    """Name the deployment in a command to type, as the operator named it."""
    return replace(finding, fix=finding.fix.replace("BUNDLE", shlex.quote(deployment.named)))


def _process(process: Process, findings: list[Finding]) -> ProcessProof:
    """Sum up what was found of one process; a tier's subject begins with its process."""
    own = worst(item for item in findings if item.subject.split(" ")[0] == process.name)
    return ProcessProof(name=process.name, verdict=own)
