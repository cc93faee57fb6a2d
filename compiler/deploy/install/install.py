"""Install, roll back and uninstall a deployment under systemd."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from compiler.deploy.deployment import installed_deployment
from compiler.deploy.doctor.already import subject_of_units
from compiler.deploy.doctor.subject import Subject
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
from compiler.deploy.install.rollout import NotReady, Say, roll_out, stop
from compiler.deploy.install.tier_folders import make_tier_folders, tier_data
from compiler.deploy.install.unit_links import drop_ins, link_units, refuse_foreign, unlink_units
from compiler.deploy.installation import Host, Installation, read_plan
from compiler.deploy.systemd import Systemd
from compiler.deploy.verify.first_start import in_words, prove_in_time
from compiler.emit.systemd.unit_names import service_units, target_unit
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.stacks.stack import Stack
from compiler.stacks.tier_specs import TierSpecs


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


def install(bundle: Path, host: Host, choices: Choices, say: Say, *, stack: Stack | None) -> None:
    """Make a bundle a host's running generation; go back to the old one if it does not serve.

    stack: the plan's own; None where it is not of this release, and nothing is known of it.
    Errors: HostError, and nothing was changed; WentBack, and the old generation is in place.
    """
    plan = read_plan(bundle)
    installation = Installation(host=host, name=plan.name)
    systemd = Systemd(host.is_system)
    subject = _prepare(bundle, plan, installation, choices, stack)
    with locked(installation):
        old = installation.current
        refuse_foreign(installation, plan, overwrite=choices.overwrite)
        number = add(installation, bundle)
        try:
            _verify(systemd, installation, number, plan)
            make_tier_folders(host, plan)
            with _disk(installation):
                link_units(installation, number, old)
        except HostError:
            _undo(installation, number, old, plan)
            raise
        say(
            f"generation {number} of {plan.name} is "
            f"{'in place already' if number == old else 'in place'}: {installation.folder(number)}"
        )
        for path in drop_ins(installation, (*service_units(plan), target_unit(plan.name))):
            say(f"kept drop-in {path}")
        if host.is_here and choices.start:
            step = _Step(
                installation=installation,
                systemd=systemd,
                number=number,
                old=old,
                say=say,
                specs=subject.specs,
            )
            _start(step, choices)
        elif host.is_here:
            _reload_if_running(systemd)


def rollback(installation: Installation, to: int | None, choices: Choices, say: Say) -> int:
    """Go back to the generation that was current before, or to a named one; return its number.

    Errors: HostError where there is none; WentBack where it does not serve.
    """
    refuse_other_user(installation.host)
    systemd = Systemd(installation.host.is_system)
    if installation.host.is_here and choices.start:
        systemd.refuse_unless_running()
    with locked(installation):
        current = _installed(installation)
        number = to or installation.previous or 0
        if number not in installation.numbers:
            there = ", ".join(map(str, installation.numbers))
            raise HostError(
                f"{installation.name} has no generation {number or 'before ' + str(current)}: "
                f"there is {there}, and {current} is current"
            )
        refuse_foreign(installation, installation.plan(number), overwrite=choices.overwrite)
        with _disk(installation):
            link_units(installation, number, current)
        say(f"generation {number} of {installation.name} is in place")
        if installation.host.is_here and choices.start:
            step = _Step(
                installation=installation, systemd=systemd, number=number, old=current, say=say
            )
            _start(step, replace(choices, verify=False))  # an operator's word is enough to go back
        elif installation.host.is_here:
            _reload_if_running(systemd)
    return number


def uninstall(installation: Installation, *, purge: bool, overwrite: bool, say: Say) -> None:
    """Stop a deployment and take its units and generations away; purge also takes its data.

    Errors: HostError.
    """
    host = installation.host
    refuse_other_user(host)
    systemd = Systemd(host.is_system)
    with locked(installation):
        number = _installed(installation)
        plan = installation.plan(number)
        refuse_foreign(installation, plan, overwrite=overwrite)
        runs = host.is_here and _is_running(systemd)
        if runs:
            stop(systemd, (target_unit(plan.name), *reversed(service_units(plan))))
        with _disk(installation):
            unlink_units(installation, plan)
            installation.link.unlink()
            (installation.home / "previous").unlink(missing_ok=True)
            for unfinished in installation.home.glob(".*.dync-new"):
                unfinished.unlink()
            shutil.rmtree(installation.home / "generations")
            shutil.rmtree(installation.home / "proofs", ignore_errors=True)
        if runs:
            systemd.reload()
        own = (host.at(host.state / plan.name), host.at(host.cache / plan.name))
        data = (*own, *tier_data(host, plan))
        if purge:
            for folder in (*data, installation.home):
                shutil.rmtree(folder, ignore_errors=True)
        left = [str(path) for path in (*data, installation.home) if path.exists()]
        say(f"{plan.name} is uninstalled{': left ' + ', '.join(left) if left else ''}")
    for path in drop_ins(installation, (*service_units(plan), target_unit(plan.name))):
        say(f"kept drop-in {path}")


def _prepare(
    bundle: Path, plan: Plan, installation: Installation, choices: Choices, stack: Stack | None
) -> Subject:
    """Refuse whatever would fail later, before anything is changed; return what was looked at."""
    host, systemd = installation.host, Systemd(installation.host.is_system)
    if not (bundle / host.units_folder).is_dir():
        raise HostError(f"{bundle} has no units: make it again with dync build")
    if not choices.overwrite:
        refuse_changed(
            bundle, "make it again with dync build, or give --overwrite to install it so"
        )
    refuse_other_user(host)
    starts = host.is_here and choices.start
    if starts:
        systemd.refuse_unless_running()
        refuse_stray_environment(systemd, plan)
    if choices.create_user:
        create_account(host, plan)
    subject = subject_of_units(plan, stack, bundle, host)
    refuse_unfit(subject, starts=starts)
    return subject


def _installed(installation: Installation) -> int:
    number = installation.current
    if number is None:
        raise HostError(f"{installation.name} is not installed here ({installation.home}/current)")
    return number


def _verify(systemd: Systemd, installation: Installation, number: int, plan: Plan) -> None:
    """Let systemd read the new units before anything points at them.

    Units of an image are read with the image's programs left out of sight, which are not here.
    """
    host = installation.host
    folder = installation.folder(number) / host.units_folder
    units = (*service_units(plan), target_unit(plan.name))
    said = systemd.verify(folder, units)
    if not host.is_here:
        said = [line for line in said if " is not executable: No such file" not in line]
    if said:
        raise HostError("\n  ".join(("systemd-analyze verify refuses the units:", *said)))


def _undo(installation: Installation, number: int, old: int | None, plan: Plan) -> None:
    if number == old:
        return
    if old is None:
        unlink_units(installation, plan)
        installation.link.unlink(missing_ok=True)
    elif installation.current != old:
        link_units(installation, old, number)
    drop(installation, number)
    if old is None:
        for folder in ("generations", "proofs"):
            shutil.rmtree(installation.home / folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One move from an old generation, if there is one, to a new one.

    specs: what the new one's stack says of its tiers, for its proof.
    """

    installation: Installation
    systemd: Systemd
    number: int
    old: int | None
    say: Say
    specs: TierSpecs = field(default_factory=dict)


def _start(step: _Step, choices: Choices) -> None:
    """Make the new generation run and prove it; else the old one again.

    Errors: WentBack.
    """
    installation, systemd = step.installation, step.systemd
    try:
        systemd.reload()
        stop(systemd, _left_over(installation, step.number, step.old))
        asked_s = roll_out(installation, systemd, step.number, step.say)
        said = _prove(step) if choices.verify else ""
        plan = installation.plan(step.number)
        step.say(f"{plan.name} serves at {plan.url} (asked for {asked_s:.0f} s){said}")
    except (NotReady, HostError, KeyboardInterrupt) as error:
        raise _go_back(step, error) from error
    states = systemd.show(service_units(installation.plan(step.number)))
    running = {running_generation(installation, state.main_pid) for state in states.values()}
    prune(installation, {found for found in running if found is not None})


def _prove(step: _Step) -> str:
    """Run `dync verify` on a generation that answers, once for each; return what to say of it.

    Errors: NotReady where it does not do what it was built for.
    """
    installation = step.installation
    try:
        deployment = installed_deployment(installation.host, installation.name)
        proof = prove_in_time(deployment, step.specs)
    except Exception as error:
        raise NotReady(target_unit(installation.name), f"could not be proved: {error!r}") from error
    proof.keep()
    if proof.is_refuted:
        hint = "to look at it as it runs: dync install --no-verify, then dync verify"
        why = "\n  ".join(("answers, but is not proved:", *proof.record.failures, hint))
        raise NotReady(target_unit(installation.name), why)
    return f", {in_words(proof)}"


def _go_back(step: _Step, error: BaseException) -> WentBack:
    """Put the old generation back; without one, take the new one away. Give what to report.

    One that was current already is left to systemd, which goes on trying.
    """
    installation, systemd, old = step.installation, step.systemd, step.old
    unit = error.unit if isinstance(error, NotReady) else target_unit(installation.name)
    why = str(error) or "interrupted"
    plan = installation.plan(step.number)
    if old is None:
        stop(systemd, (target_unit(plan.name), *reversed(service_units(plan))))
        _undo(installation, step.number, old, plan)
        systemd.reload()
        return WentBack(f"{why}; nothing is installed now", unit)
    if old == step.number:
        stays = f"generation {old} stays in place (dync rollback {plan.name} leaves it)"
        return WentBack(f"{why}; {stays}", unit)
    step.say(f"{why}: going back to generation {old}")
    gone = _left_over(installation, old, step.number)
    stop(systemd, gone)
    link_units(installation, old, step.number)
    systemd.reload()
    try:
        roll_out(installation, systemd, old, step.say)
    except (NotReady, HostError) as again:
        return WentBack(f"{why}; generation {old} is back in place, but {again}", unit)
    drop(installation, step.number)
    return WentBack(f"{why}; went back to generation {old}, which serves", unit)


def _left_over(installation: Installation, number: int, old: int | None) -> tuple[str, ...]:
    """List the units of the old generation that the new one does not have, last started first."""
    if old is None:
        return ()
    kept = set(service_units(installation.plan(number)))
    try:
        before = service_units(installation.plan(old))
    except HostError:  # another release's plan: its units without a link are gone all the same
        return ()
    return tuple(unit for unit in reversed(before) if unit not in kept)


def _is_running(systemd: Systemd) -> bool:
    try:
        systemd.refuse_unless_running()
    except HostError:
        return False
    return True


def _reload_if_running(systemd: Systemd) -> None:
    if _is_running(systemd):
        systemd.reload()


@contextmanager
def _disk(installation: Installation) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place_name = error.filename or installation.home
        raise HostError(f"cannot write {place_name}: {error.strerror or error}") from error
