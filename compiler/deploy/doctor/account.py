"""The account that the units' processes run as."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.deploy.accounts import find_account
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, skipped


def check(subject: Subject) -> Iterator[Finding]:
    """Look for the account; a user's own manager has no other."""
    name = subject.account
    if not name:
        return
    found = find_account(subject.host, name)
    if found is not None and found[0] == 0:
        yield failed(
            "account", name, f"{name} (deploy.user) is root, by its number",
            "name an account without privileges in the profile",
        )  # fmt: skip
    elif found is None and subject.makes_account:
        yield passed("account", name, "will be made")
    elif found is None:
        yield failed(
            "account", name, f"there is no account {name} (deploy.user)",
            "give --create-user to dync install, or name another in the profile",
        )  # fmt: skip
    elif subject.host.is_here and not subject.can_ask:
        yield skipped(
            "account", name, "only root can see what it may read, run and write", "run it with sudo"
        )
    else:
        yield passed("account", name, "is there")
