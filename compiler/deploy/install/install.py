"""Install, roll back and uninstall a deployment under systemd."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from compiler.deploy.deployment import installed_place
from compiler.deploy.install.generations import (
    add,
    drop,
    locked,
    prune,
    refuse_changed,
    running_generation,
)
from compiler.deploy.install.requirements import (
    create_account,
    refuse_other_user,
    refuse_stray_environment,
    refuse_unfit,
)
from compiler.deploy.install.rollout import NotReady, Say, bring_up, stop
from compiler.deploy.install.tier_folders import make_tier_folders, tier_data
from compiler.deploy.install.unit_links import drop_ins, place, refuse_foreign, unplace
from compiler.deploy.installation import Deployment, Host, Refused, read_plan
from compiler.deploy.systemd import Systemd
from compiler.deploy.verify.first_start import in_words, prove_in_time
from compiler.emit.systemd.unit_names import service_units, target_unit
from compiler.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How to install: what the options of the command say.

    verify: whether a generation must be proved before it is called serving.
    """

    start: bool = True
    verify: bool = True
    overwrite: bool = False
    create_user: bool = False


class WentBack(Exception):
    """A new generation that did not serve; the text says which unit, and what runs now."""

    def __init__(self, text: str, unit: str) -> None:
        super().__init__(text)
        self.unit = unit


def install(bundle: Path, host: Host, choices: Choices, say: Say) -> None:
    """Make a bundle a host's running generation; go back to the old one if it does not serve.

    Errors: Refused, and nothing was changed; WentBack, and the old generation is in place.
    """
    plan = read_plan(bundle)
    deployment = Deployment(host=host, name=plan.name)
    systemd = Systemd(host.is_system)
    _prepare(bundle, plan, deployment, choices)
    with locked(deployment):
        old = deployment.current
        refuse_foreign(deployment, plan, overwrite=choices.overwrite)
        number = add(deployment, bundle)
        try:
            _verify(systemd, deployment, number, plan)
            make_tier_folders(host, plan)
            with _disk(deployment):
                place(deployment, number, old)
        except Refused:
            _undo(deployment, number, old, plan)
            raise
        say(
            f"generation {number} of {plan.name} is "
            f"{'in place already' if number == old else 'in place'}: {deployment.folder(number)}"
        )
        for path in drop_ins(deployment, (*service_units(plan), target_unit(plan.name))):
            say(f"kept drop-in {path}")
        if host.is_here and choices.start:
            step = _Step(deployment=deployment, systemd=systemd, number=number, old=old, say=say)
            _start(step, choices)
        elif host.is_here:
            _reload_if_running(systemd)


def rollback(deployment: Deployment, to: int | None, choices: Choices, say: Say) -> int:
    """Go back to the generation that was current before, or to a named one; give its number.

    Errors: Refused where there is none; WentBack where it does not serve.
    """
    refuse_other_user(deployment.host)
    systemd = Systemd(deployment.host.is_system)
    if deployment.host.is_here and choices.start:
        systemd.refuse_unless_running()
    with locked(deployment):
        current = _installed(deployment)
        number = to or deployment.previous or 0
        if number not in deployment.numbers:
            there = ", ".join(map(str, deployment.numbers))
            raise Refused(
                f"{deployment.name} has no generation {number or 'before ' + str(current)}: "
                f"there is {there}, and {current} is current"
            )
        refuse_foreign(deployment, deployment.plan(number), overwrite=choices.overwrite)
        with _disk(deployment):
            place(deployment, number, current)
        say(f"generation {number} of {deployment.name} is in place")
        if deployment.host.is_here and choices.start:
            step = _Step(
                deployment=deployment, systemd=systemd, number=number, old=current, say=say
            )
            _start(step, replace(choices, verify=False))  # an operator's word is enough to go back
        elif deployment.host.is_here:
            _reload_if_running(systemd)
    return number


def uninstall(deployment: Deployment, *, purge: bool, overwrite: bool, say: Say) -> None:
    """Stop a deployment and take its units and generations away; purge also takes its data.

    Errors: Refused.
    """
    host = deployment.host
    refuse_other_user(host)
    systemd = Systemd(host.is_system)
    with locked(deployment):
        number = _installed(deployment)
        plan = deployment.plan(number)
        refuse_foreign(deployment, plan, overwrite=overwrite)
        runs = host.is_here and _is_running(systemd)
        if runs:
            stop(systemd, (target_unit(plan.name), *reversed(service_units(plan))))
        with _disk(deployment):
            unplace(deployment, plan)
            deployment.link.unlink()
            (deployment.home / "previous").unlink(missing_ok=True)
            for unfinished in deployment.home.glob(".*.dync-new"):
                unfinished.unlink()
            shutil.rmtree(deployment.home / "generations")
            shutil.rmtree(deployment.home / "proofs", ignore_errors=True)
        if runs:
            systemd.reload()
        own = (host.at(host.state / plan.name), host.at(host.cache / plan.name))
        data = (*own, *tier_data(host, plan))
        if purge:
            for folder in (*data, deployment.home):
                shutil.rmtree(folder, ignore_errors=True)
        left = [str(path) for path in (*data, deployment.home) if path.exists()]
        say(f"{plan.name} is uninstalled{': left ' + ', '.join(left) if left else ''}")
    for path in drop_ins(deployment, (*service_units(plan), target_unit(plan.name))):
        say(f"kept drop-in {path}")


def _prepare(bundle: Path, plan: Plan, deployment: Deployment, choices: Choices) -> None:
    """Refuse whatever would fail later, before anything is changed."""
    host, systemd = deployment.host, Systemd(deployment.host.is_system)
    if not (bundle / host.units_folder).is_dir():
        raise Refused(f"{bundle} has no units: make it again with dync build")
    if not choices.overwrite:
        refuse_changed(
            bundle, "make it again with dync build, or give --overwrite to install it so"
        )
    refuse_other_user(host)
    if host.is_here and choices.start:
        systemd.refuse_unless_running()
        refuse_stray_environment(systemd, plan)
    if choices.create_user:
        create_account(host, plan)
    refuse_unfit(host, plan)


def _installed(deployment: Deployment) -> int:
    number = deployment.current
    if number is None:
        raise Refused(f"{deployment.name} is not installed here ({deployment.home}/current)")
    return number


def _verify(systemd: Systemd, deployment: Deployment, number: int, plan: Plan) -> None:
    """Let systemd read the new units before anything points at them.

    Units of an image are read with the image's programs left out of sight, which are not here.
    """
    host = deployment.host
    folder = deployment.folder(number) / host.units_folder
    units = (*service_units(plan), target_unit(plan.name))
    said = systemd.verify(folder, units)
    if not host.is_here:
        said = [line for line in said if " is not executable: No such file" not in line]
    if said:
        raise Refused("\n  ".join(("systemd-analyze verify refuses the units:", *said)))


def _undo(deployment: Deployment, number: int, old: int | None, plan: Plan) -> None:
    if number == old:
        return
    if old is None:
        unplace(deployment, plan)
        deployment.link.unlink(missing_ok=True)
    elif deployment.current != old:
        place(deployment, old, number)
    drop(deployment, number)
    if old is None:
        for folder in ("generations", "proofs"):
            shutil.rmtree(deployment.home / folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One move from an old generation, if there is one, to a new one."""

    deployment: Deployment
    systemd: Systemd
    number: int
    old: int | None
    say: Say


def _start(step: _Step, choices: Choices) -> None:
    """Make the new generation run and prove it; else the old one again.

    Errors: WentBack.
    """
    deployment, systemd = step.deployment, step.systemd
    try:
        systemd.reload()
        stop(systemd, _left_over(deployment, step.number, step.old))
        asked_s = bring_up(deployment, systemd, step.number, step.say)
        said = _prove(step) if choices.verify else ""
        plan = deployment.plan(step.number)
        step.say(f"{plan.name} serves at {plan.url} (asked for {asked_s:.0f} s){said}")
    except (NotReady, Refused, KeyboardInterrupt) as error:
        raise _go_back(step, error) from error
    states = systemd.show(service_units(deployment.plan(step.number)))
    running = {running_generation(deployment, state.main_pid) for state in states.values()}
    prune(deployment, {found for found in running if found is not None})


def _prove(step: _Step) -> str:
    """Run `dync verify` on a generation that answers, once for each; return what to say of it.

    Errors: NotReady where it does not do what it was built for.
    """
    deployment = step.deployment
    try:
        proof = prove_in_time(installed_place(deployment.host, deployment.name))
    except Exception as error:
        raise NotReady(target_unit(deployment.name), f"could not be proved: {error!r}") from error
    proof.keep()
    if proof.is_refuted:
        hint = "to look at it as it runs: dync install --no-verify, then dync verify"
        why = "\n  ".join(("answers, but is not proved:", *proof.record.failures, hint))
        raise NotReady(target_unit(deployment.name), why)
    return f", {in_words(proof)}"


def _go_back(step: _Step, error: BaseException) -> WentBack:
    """Put the old generation back; without one, take the new one away. Give what to report.

    One that was current already is left to systemd, which goes on trying.
    """
    deployment, systemd, old = step.deployment, step.systemd, step.old
    unit = error.unit if isinstance(error, NotReady) else target_unit(deployment.name)
    why = str(error) or "interrupted"
    plan = deployment.plan(step.number)
    if old is None:
        stop(systemd, (target_unit(plan.name), *reversed(service_units(plan))))
        _undo(deployment, step.number, old, plan)
        systemd.reload()
        return WentBack(f"{why}; nothing is installed now", unit)
    if old == step.number:
        stays = f"generation {old} stays in place (dync rollback {plan.name} leaves it)"
        return WentBack(f"{why}; {stays}", unit)
    step.say(f"{why}: going back to generation {old}")
    gone = _left_over(deployment, old, step.number)
    stop(systemd, gone)
    place(deployment, old, step.number)
    systemd.reload()
    try:
        bring_up(deployment, systemd, old, step.say)
    except (NotReady, Refused) as again:
        return WentBack(f"{why}; generation {old} is back in place, but {again}", unit)
    drop(deployment, step.number)
    return WentBack(f"{why}; went back to generation {old}, which serves", unit)


def _left_over(deployment: Deployment, number: int, old: int | None) -> tuple[str, ...]:
    """List the units of the old generation that the new one does not have, last started first."""
    if old is None:
        return ()
    kept = set(service_units(deployment.plan(number)))
    try:
        before = service_units(deployment.plan(old))
    except Refused:  # another release's plan: its units without a link are gone all the same
        return ()
    return tuple(unit for unit in reversed(before) if unit not in kept)


def _is_running(systemd: Systemd) -> bool:
    try:
        systemd.refuse_unless_running()
    except Refused:
        return False
    return True


def _reload_if_running(systemd: Systemd) -> None:
    if _is_running(systemd):
        systemd.reload()


@contextmanager
def _disk(deployment: Deployment) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place_name = error.filename or deployment.home
        raise Refused(f"cannot write {place_name}: {error.strerror or error}") from error
