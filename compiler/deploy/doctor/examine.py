"""One table of checks answers whether a host is fit: for `dync doctor`, and for `dync install`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from compiler.deploy.deployment import Manager
from compiler.deploy.doctor import (
    account,
    cores,
    disk,
    gpus,
    host_memory,
    limits,
    model,
    ownership,
    ports,
    proxy,
    secrets,
    services,
    stack,
    store,
    system,
    tiers,
)
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, Verdict, worst


class Phase(Enum):
    """When a host must have something: `dync install --no-start` puts in place, and no more."""

    PLACE = "place"
    """Before units are put in place: it lies on the host, and does not come by itself."""
    START = "start"
    """When the processes start: what is free, set or answering by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the table: how to look, and where and when that says something.

    of_image: it looks at files and accounts, which an image has too. by: who starts the processes,
    where it is a matter of one of them only.
    """

    look: Callable[[Subject], Iterator[Finding]]
    phase: Phase
    of_image: bool = False
    by: Manager | None = None

    def is_for(self, subject: Subject, phases: Collection[Phase]) -> bool:
        """Return whether the check is made of a subject."""
        return (
            self.phase in phases
            and (self.of_image or subject.host.is_here)
            and self.by in (None, subject.manager)
        )


CHECKS: tuple[Check, ...] = (
    Check(look=system.check_architecture, phase=Phase.PLACE),
    Check(look=system.check_tools, phase=Phase.PLACE),
    Check(look=system.check_systemd, phase=Phase.PLACE),
    Check(look=system.check_clock, phase=Phase.START),
    Check(look=account.check, phase=Phase.PLACE, of_image=True),
    Check(look=ownership.check, phase=Phase.PLACE, of_image=True),
    Check(look=stack.check_program, phase=Phase.PLACE, of_image=True),
    Check(look=stack.check_parts, phase=Phase.START),
    Check(look=gpus.check, phase=Phase.START),
    Check(look=cores.check, phase=Phase.START),
    Check(look=host_memory.check, phase=Phase.START),
    Check(look=limits.check, phase=Phase.START, by=Manager.LAUNCHER),
    Check(look=ports.check, phase=Phase.START),
    Check(look=model.check_folder, phase=Phase.PLACE, of_image=True),
    Check(look=model.check_files, phase=Phase.PLACE),
    Check(look=model.check_hub, phase=Phase.START),
    Check(look=secrets.check, phase=Phase.PLACE, of_image=True),
    Check(look=disk.check, phase=Phase.START, by=Manager.LAUNCHER),
    Check(look=tiers.check, phase=Phase.PLACE, of_image=True),
    Check(look=store.check, phase=Phase.PLACE, of_image=True),
    Check(look=proxy.check, phase=Phase.PLACE, of_image=True),
    Check(look=services.check, phase=Phase.START),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What was found on a host, in the order of CHECKS."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def is_fit(self) -> bool:
        """Whether the deployment can be put in place there, or start, as was asked."""
        return worst(self.findings) is not Verdict.FAIL

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Return what must be fixed first."""
        return tuple(item for item in self.findings if item.verdict is Verdict.FAIL)


def examine(subject: Subject, phases: Collection[Phase] = tuple(Phase)) -> Checkup:
    """Check a host against a plan; every check speaks, none stops another."""
    checks = [check for check in CHECKS if check.is_for(subject, phases)]
    found = (finding for check in checks for finding in check.look(subject))
    return Checkup(name=subject.plan.name, findings=tuple(found))
