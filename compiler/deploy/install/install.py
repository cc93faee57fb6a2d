"""Install, roll back and uninstall a deployment under systemd."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from compiler.deploy.doctor.already import subject_of_units
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.environment_file import refuse_empty, written_environment
from compiler.deploy.install.emitted import emitted
from compiler.deploy.install.generations import (
    ReadBundle,
    add,
    locked,
    prune,
    read_source,
    refuse_changed_generation,
)
from compiler.deploy.install.requirements import (
    create_account,
    refuse_other_user,
    refuse_others_files,
    refuse_stray_environment,
    refuse_unfit,
)
from compiler.deploy.install.rollout import Say, stop
from compiler.deploy.install.switch import Switch, left_over, running_generations, start, undo
from compiler.deploy.install.tier_folders import make_tier_folders, tier_data
from compiler.deploy.install.unit_links import drop_ins, link_units, refuse_foreign, unlink_units
from compiler.deploy.installation import Host, Installation
from compiler.deploy.systemd import Systemd
from compiler.emit.systemd.unit_names import target_unit
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.stacks.stack import Stack
from compiler.write.trees import remove


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How to install: what the options of the command say.

    verify: whether a generation must be proved before it is called serving. passed: variables of
    the caller's shell that are kept for the processes.
    """

    start: bool = True
    verify: bool = True
    overwrite: bool = False
    create_user: bool = False
    passed: Mapping[str, str] = field(default_factory=dict)


def install(
    bundle: Path,
    host: Host,
    choices: Choices,
    say: Say,
    *,
    stack: Stack | None,
) -> None:
    """Make a bundle a host's running generation; go back to the old one if it does not serve.

    stack: the plan's own; None where it is not of this release, and nothing is known of it.
    Errors: HostError, and nothing was changed; WentBack, and the old generation is in place.
    """
    source = read_source(bundle)
    plan = source.plan
    installation = Installation(host=host, name=plan.name)
    systemd = Systemd(host.is_system)
    artifacts = emitted(source, overwrite=choices.overwrite)
    subject = _prepare(source, installation, choices, stack)
    with locked(installation):
        old = installation.current
        refuse_foreign(installation, plan, overwrite=choices.overwrite)
        number = add(installation, artifacts)
        try:
            _verify(systemd, installation, number, plan)
            make_tier_folders(host, plan)
            with written_environment(host, plan.name, choices.passed), _disk(installation):
                link_units(installation, number, old)
        except HostError:
            undo(installation, number, old, plan)
            raise
        say(
            f"generation {number} of {plan.name} is "
            f"{'in place already' if number == old else 'in place'}: {installation.folder(number)}"
        )
        for path in drop_ins(installation, (*installation.services(plan), target_unit(plan.name))):
            say(f"kept drop-in {path}")
        if host.is_here and choices.start:
            step = Switch(
                installation=installation,
                systemd=systemd,
                number=number,
                old=old,
                say=say,
                specs=subject.specs,
            )
            start(step, verifies=choices.verify)
        else:
            _settle(installation, systemd, plan)


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
        refuse_others_files(installation, number)
        if not choices.overwrite:
            hint = "give --overwrite to go back to it as it is, or --to another one"
            refuse_changed_generation(installation.folder(number), hint)
        with _disk(installation):
            link_units(installation, number, current)
        say(f"generation {number} of {installation.name} is in place")
        if installation.host.is_here and choices.start:
            step = Switch(
                installation=installation, systemd=systemd, number=number, old=current, say=say
            )
            start(step, verifies=False)  # an operator's word is enough to go back
        else:
            _settle(installation, systemd, installation.plan(number))
    return number


def uninstall(installation: Installation, *, purge: bool, overwrite: bool, say: Say) -> None:
    """Stop a deployment and take its units and generations away; purge also takes its data.

    Errors: HostError.
    """
    host = installation.host
    refuse_other_user(host)
    systemd = Systemd(host.is_system)
    with locked(installation):
        number = installation.current or max(installation.numbers, default=0)
        if not number:
            _installed(installation)
        plan = installation.plan(number)
        refuse_foreign(installation, plan, overwrite=overwrite)
        runs = host.is_here and _is_running(systemd)
        if runs:
            own = reversed(installation.services(plan))
            stop(systemd, (target_unit(plan.name), *own, *left_over(installation, number)))
        with _disk(installation):
            unlink_units(installation, plan)
            installation.link.unlink(missing_ok=True)
            (installation.home / "previous").unlink(missing_ok=True)
            generations, proofs = installation.folders
            shutil.rmtree(generations)
            remove(proofs)
        if runs:
            systemd.reload()
        places = (host.at(host.state / plan.name), host.at(host.cache / plan.name))
        data = (*places, *tier_data(host, plan))
        if purge:
            for folder in (*data, installation.home):
                remove(folder)
        left = [str(path) for path in (*data, installation.home) if path.exists()]
        say(f"{plan.name} is uninstalled{': left ' + ', '.join(left) if left else ''}")
    for path in drop_ins(installation, (*installation.services(plan), target_unit(plan.name))):
        say(f"kept drop-in {path}")


def _prepare(
    source: ReadBundle, installation: Installation, choices: Choices, stack: Stack | None
) -> Subject:
    """Refuse whatever would fail later, before anything is changed; return what was looked at."""
    host, systemd, plan = installation.host, Systemd(installation.host.is_system), source.plan
    refuse_other_user(host)
    refuse_empty(choices.passed)
    starts = host.is_here and choices.start
    if starts:
        systemd.refuse_unless_running()
        refuse_stray_environment(systemd, plan)
    subject = replace(
        subject_of_units(plan, stack, source.folder, host),
        files=source.files,
        passed=choices.passed,
        makes_account=choices.create_user,
    )
    refuse_unfit(subject, starts=starts)
    if choices.create_user and create_account(host, plan):
        subject = replace(subject, makes_account=False)
        refuse_unfit(subject, starts=starts)  # what can be asked of an account that is there
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
    units = (*installation.services(plan), target_unit(plan.name))
    said = systemd.verify(folder, units)
    if not host.is_here:
        said = [line for line in said if " is not executable: No such file" not in line]
    if said:
        raise HostError("\n  ".join(("systemd-analyze verify refuses the units:", *said)))


def _is_running(systemd: Systemd) -> bool:
    try:
        systemd.refuse_unless_running()
    except HostError:
        return False
    return True


def _settle(installation: Installation, systemd: Systemd, plan: Plan) -> None:
    """Let a manager that runs see the new files, and drop the generations that nothing needs."""
    running: set[int] = set()
    if installation.host.is_here and _is_running(systemd):
        systemd.reload()
        running = running_generations(installation, systemd, plan)
    prune(installation, running)


@contextmanager
def _disk(installation: Installation) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place_name = error.filename or installation.home
        raise HostError(f"cannot write {place_name}: {error.strerror or error}") from error
