"""The program of a store that the deployment starts itself."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed

_PROGRAM = "redis-server"


def check(subject: Subject) -> Iterator[Finding]:
    """Look for the store's program in the folders that its process will search."""
    for process in subject.plan.stores:
        found = subject.found_program(process, _PROGRAM)
        if found:
            yield passed("store", _PROGRAM, f"{process.name} runs {found}")
        else:
            yield failed(
                "store", _PROGRAM, f"there is no {_PROGRAM}",
                f"apt install {_PROGRAM}, or dnf install redis",
            )  # fmt: skip
