"""`dync doctor`: this host against a plan, before a start; one module for each group of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from compiler.deploy.doctor import (
    cores,
    disk,
    gpus,
    host_memory,
    limits,
    model,
    ports,
    services,
    stack,
    system,
)
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, Verdict, worst

Check = Callable[[Subject], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    system.check,
    stack.check,
    gpus.check,
    cores.check,
    host_memory.check,
    limits.check,
    ports.check,
    model.check,
    disk.check,
    services.check,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What was found on this host, in the order of CHECKS."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def is_fit(self) -> bool:
        """Whether the deployment can start here."""
        return worst(self.findings) is not Verdict.FAIL


def examine(subject: Subject) -> Checkup:
    """Check this host against a plan; every check speaks, none stops another."""
    found = (finding for check in CHECKS for finding in check(subject))
    return Checkup(name=subject.plan.name, findings=tuple(found))
