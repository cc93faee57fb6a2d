"""Files that hold a key or a password: read when a process starts, and never kept elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed


def check(subject: Subject) -> Iterator[Finding]:
    """Look for every file; units have theirs read by their manager, launch.sh by you."""
    plan, host = subject.plan, subject.host
    for file in dict.fromkeys(
        file for process in plan.processes for file in process.secrets.values()
    ):
        is_key = file == plan.api_key_file
        what = "frontend.api_key_file" if is_key else "password_file of a tier"
        word = "key" if is_key else "password"
        place = host.at(Path(file))
        if not os.path.isfile(place):
            yield failed(
                "secrets", file, f"there is no file {file} ({what})",
                f"write the {word} there, mode 600",
            )  # fmt: skip
        elif not subject.account and not os.access(place, os.R_OK):
            yield failed(
                "secrets", file, f"you cannot read {file} ({what})", "make it your own, mode 600"
            )
        else:
            yield passed("secrets", file, f"the {word} is there ({what})")
