"""Files that hold a key, a password or a variable: read at a start, and never kept elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed
from compiler.process import API_KEY, TLS_CERTIFICATE, TLS_KEY, Kind, Process

_IS = {
    API_KEY: ("key", "frontend.api_key_file"),
    TLS_CERTIFICATE: ("certificate", "frontend.tls.certificate"),
    TLS_KEY: ("certificate's key", "frontend.tls.key"),
}

_LONGEST = 128 * 1024
"""Bytes of one variable with its name; source: Linux, MAX_ARG_STRLEN."""


def check(subject: Subject) -> Iterator[Finding]:
    """Look for every file; units have theirs read by their manager, launch.sh by you."""
    plan, host = subject.plan, subject.host
    seen: dict[str, tuple[str, str]] = {}
    for process in plan.processes:
        for name, file in process.secrets.items():
            seen.setdefault(file, _what(process, name))
    for file, (word, what) in seen.items():
        place = host.at(Path(file))
        if not os.path.isfile(place):
            yield failed(
                "secrets", file, f"there is no file {file} ({what})",
                f"write the {word} there, mode 600",
            )  # fmt: skip
        elif os.access(place, os.R_OK):
            wrong = _wrong(place)
            if wrong:
                fix = f"write the {word} there and nothing else"
                yield failed("secrets", file, f"{file} {wrong} ({what})", fix)
            else:
                yield passed("secrets", file, f"the {word} is there ({what})")
        elif not subject.account:
            yield failed(
                "secrets", file, f"you cannot read {file} ({what})", "make it your own, mode 600"
            )
        else:
            yield passed("secrets", file, f"the {word} is there ({what})")


def _what(process: Process, name: str) -> tuple[str, str]:
    """Return a word for what a file holds, and the key of the profile that names it."""
    if name in _IS:
        return _IS[name]
    asked = {tier.server.secret for tier in process.tiers if tier.server}
    clients = name.startswith("LMCACHE_") and any(tier.kind != "custom" for tier in process.tiers)
    if name in asked or clients or process.kind is Kind.STORE:
        return "password", "password_file of a tier"
    return "value", f"secret_env: {name}"


def _wrong(place: Path) -> str:
    """Return why a process would not start with a file, or nothing."""
    with place.open("rb") as file:
        content = file.read(_LONGEST + 1).rstrip(b"\n")
    if not content:
        return "is empty"
    if b"\0" in content:
        return "holds a NUL, which no variable can"
    return "is longer than a variable can be" if len(content) >= _LONGEST else ""
