"""The engines: the stack's environment, its pinned versions, every part imported."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed
from compiler.deploy.stack_environment import StackFailed, folder_of
from compiler.deploy.stack_environment import check as look


def check(subject: Subject) -> Iterator[Finding]:
    """Check the environment against the stack, as `dync stack check` does."""
    stack, accelerator = subject.stack, subject.plan.accelerator.value
    make = f"dync stack install {stack.name} --accelerator {accelerator} --prefix {subject.prefix}"
    try:
        found = list(look(stack, accelerator, subject.prefix))
    except StackFailed as error:
        yield failed("stack", stack.name, str(error), "choose another stack: dync stack list")
        return
    for item in found:
        if not item.holds:
            yield failed("stack", item.subject, f"{item.found}, wanted {item.wanted}", make)
    if all(item.holds for item in found):
        what = ", ".join(
            f"{item.subject} {item.found}" for item in found if "import" not in item.subject
        )
        yield passed("stack", str(folder_of(stack, subject.prefix)), f"{what}; every part imports")
