"""The engines: the stack's environment runs, has its pinned versions, and every part imports."""

from __future__ import annotations

import os
from collections.abc import Iterator

from compiler.deploy.accounts import acting_as
from compiler.deploy.doctor.ownership import others_of_stack
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, skipped, warned
from compiler.deploy.isolated import isolated
from compiler.deploy.stack_check import StackFailed
from compiler.deploy.stack_check import check as look


def check_program(subject: Subject) -> Iterator[Finding]:
    """Look whether the environment is there, and whether the account can run it."""
    program = subject.program
    if not os.path.lexists(subject.host.entry(program)):
        yield failed("stack", subject.plan.stack, f"there is no stack at {program}", _make(subject))
    elif _is_not_for_root(subject):
        return
    elif not subject.may(*isolated(str(program), "-c", "pass")):
        yield failed(
            "stack", subject.plan.stack, f"{subject.who} cannot run {program}",
            "every folder above it must be open to that account (chmod o+x), or install the stack "
            "elsewhere and set deploy.prefix",
        )  # fmt: skip


def check_parts(subject: Subject) -> Iterator[Finding]:
    """Check the environment against the stack, as `dync stack check` does.

    One that is not there is found by check_program; of one that something runs from only the
    versions are read, as loading its parts takes time from what runs.
    """
    stack = subject.stack
    if stack is None:
        name = subject.plan.stack
        yield skipped("stack", name, f"this release of dync knows no stack {name}: not looked at")
        return
    if not os.path.exists(subject.program):
        return
    if _is_not_for_root(subject) or not subject.may(*isolated(str(subject.program), "-c", "pass")):
        return  # as is one that cannot be run
    runs = any(process.argv[0] == str(subject.program) for process in subject.running)
    try:
        with acting_as(subject.account if subject.can_ask else "") as identity:
            accelerator = subject.plan.accelerator.value
            found = list(look(stack, accelerator, subject.prefix, loads=not runs, **identity))
    except StackFailed as error:
        yield failed("stack", stack.name, str(error), "choose another stack: dync stack list")
        return
    for item in found:
        if not item.holds:
            yield failed(
                "stack", item.subject, f"{item.found}, wanted {item.wanted}", _make(subject)
            )
        elif item.noted:
            yield warned("stack", item.subject, item.found, _make(subject))
    if all(item.holds for item in found):
        what = ", ".join(
            f"{item.subject} {item.found}" for item in found if "import" not in item.subject
        )
        how = "in use already" if runs else "every part imports"
        yield passed("stack", str(subject.stack_folder), f"{what}; {how}")


def _make(subject: Subject) -> str:
    accelerator = subject.plan.accelerator.value
    return (
        f"dync stack install {subject.plan.stack} --accelerator {accelerator} "
        f"--prefix {subject.prefix}"
    )


def _is_not_for_root(subject: Subject) -> bool:
    """Return whether root would run what others wrote, or run it for an account that is not there.

    The checks of ownership and of the account say so.
    """
    if os.geteuid() != 0:
        return False
    return not subject.can_ask if subject.account else bool(others_of_stack(subject))
