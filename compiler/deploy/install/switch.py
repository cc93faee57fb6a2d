"""Switch a host from one generation of a deployment to another, and back where that fails."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from compiler.deploy.deployment import installed_deployment
from compiler.deploy.install.generations import drop, prune, running_generation
from compiler.deploy.install.rollout import NotReady, Say, roll_out, stop
from compiler.deploy.install.unit_links import link_units, unlink_units
from compiler.deploy.installation import Installation
from compiler.deploy.systemd import Systemd
from compiler.deploy.verify.first_start import in_words, prove_in_time
from compiler.emit.systemd.unit_names import target_unit
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.stacks.tier_specs import TierSpecs
from compiler.write.trees import remove


class WentBack(Exception):
    """A new generation that did not serve; the text says which unit, and what runs now."""

    def __init__(self, text: str, unit: str) -> None:
        super().__init__(text)
        self.unit = unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One move from an old generation, if there is one, to a new one.

    specs: what the new one's stack says of its tiers, for its proof.
    """

    installation: Installation
    systemd: Systemd
    number: int
    old: int | None
    say: Say
    specs: TierSpecs = field(default_factory=dict)


def start(step: Switch, *, verifies: bool) -> None:
    """Make the new generation run and prove it; else the old one again.

    Errors: WentBack.
    """
    installation, systemd = step.installation, step.systemd
    try:
        systemd.reload()
        stop(systemd, left_over(installation, step.number))
        asked_s = roll_out(installation, systemd, step.number, step.say)
        said = _prove(step) if verifies else ""
        plan = installation.plan(step.number)
        step.say(f"{plan.name} serves at {plan.url} (asked for {asked_s:.0f} s){said}")
    except (NotReady, HostError, KeyboardInterrupt) as error:
        raise _go_back(step, error) from error
    prune(installation, running_generations(installation, systemd, installation.plan(step.number)))


def running_generations(installation: Installation, systemd: Systemd, plan: Plan) -> set[int]:
    """Return the generations that processes of a deployment were started from."""
    states = systemd.show(installation.services(plan))
    running = {running_generation(installation, state.main_pid) for state in states.values()}
    return {found for found in running if found is not None}


def _prove(step: Switch) -> str:
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


def _go_back(step: Switch, error: BaseException) -> WentBack:
    """Put the old generation back; without one, take the new one away. Give what to report.

    One that was current already is left to systemd, which goes on trying.
    """
    installation, systemd, old = step.installation, step.systemd, step.old
    unit = error.unit if isinstance(error, NotReady) else target_unit(installation.name)
    why = str(error) or "interrupted"
    plan = installation.plan(step.number)
    if old is None:
        stop(systemd, (target_unit(plan.name), *reversed(installation.services(plan))))
        undo(installation, step.number, old, plan)
        systemd.reload()
        return WentBack(f"{why}; nothing is installed now", unit)
    if old == step.number:
        stays = f"generation {old} stays in place (dync rollback {plan.name} leaves it)"
        return WentBack(f"{why}; {stays}", unit)
    step.say(f"{why}: going back to generation {old}")
    stop(systemd, left_over(installation, old))
    link_units(installation, old, step.number)
    systemd.reload()
    try:
        roll_out(installation, systemd, old, step.say)
    except (NotReady, HostError) as again:
        return WentBack(f"{why}; generation {old} is back in place, but {again}", unit)
    drop(installation, step.number)
    return WentBack(f"{why}; went back to generation {old}, which serves", unit)


def left_over(installation: Installation, number: int) -> tuple[str, ...]:
    """List the units of other generations that one does not have, last started first.

    Of all that are there: an installation that was killed may have left any of them running.
    """
    found: dict[str, None] = {}
    kept = set(installation.services(installation.plan(number)))
    for other in installation.numbers:
        with suppress(HostError):  # another release's plan: its units without a link are gone
            found |= dict.fromkeys(reversed(installation.services(installation.plan(other))))
    return tuple(unit for unit in found if unit not in kept)


def undo(installation: Installation, number: int, old: int | None, plan: Plan) -> None:
    """Take a new generation away again, and put the old one, if there is one, in its place."""
    if number == old:
        return
    if old is None:
        unlink_units(installation, plan)
        installation.link.unlink(missing_ok=True)
    elif installation.current != old:
        link_units(installation, old, number)
    drop(installation, number)
    if old is None:
        for folder in installation.folders:
            remove(folder)
