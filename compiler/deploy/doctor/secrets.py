"""Files that hold a key or a password: read when a process starts, and never kept elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed
from compiler.process import API_KEY, TLS_CERTIFICATE, TLS_KEY

_IS = {
    API_KEY: ("key", "frontend.api_key_file"),
    TLS_CERTIFICATE: ("certificate", "frontend.tls.certificate"),
    TLS_KEY: ("certificate's key", "frontend.tls.key"),
}


def check(subject: Subject) -> Iterator[Finding]:
    """Look for every file; units have theirs read by their manager, launch.sh by you."""
    plan, host = subject.plan, subject.host
    named = {file: name for item in plan.processes for name, file in item.secrets.items()}
    for file, name in named.items():
        word, what = _IS.get(name, ("password", "password_file of a tier"))
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
