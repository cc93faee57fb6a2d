"""Accounts of a host: who is there, and what one of them may do."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compiler.deploy.installation import Host
from compiler.write.safe_read import read_named

_WITHIN_S = 60


def find_account(host: Host, name: str) -> tuple[int, int] | None:
    """Return the user and group of an account; None where there is none of that name."""
    if host.is_here:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return None
        return entry.pw_uid, entry.pw_gid
    try:
        text = read_named(host.at(Path("/etc/passwd"))).decode("utf-8", "surrogateescape")
    except OSError:
        return None
    line = re.search(rf"^{re.escape(name)}:[^:\n]*:([0-9]+):([0-9]+):", text, re.MULTILINE)
    return (int(line[1]), int(line[2])) if line else None


def owner_name(owner: int) -> str:
    """Return the name of the account with a number, or the number where it has none."""
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)


def identity_of(name: str) -> dict[str, Any]:
    """Return what lets subprocess run a command as an account; nothing for whoever runs this.

    Errors: KeyError where there is no such account.
    """
    if not name or (entry := pwd.getpwnam(name)).pw_uid == os.geteuid():
        return {}
    groups = os.getgrouplist(name, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


@contextmanager
def acting_as(name: str) -> Iterator[dict[str, Any]]:
    """Return what lets subprocess run an account's own programs, with a home that it may write.

    Errors: KeyError where there is no such account.
    """
    identity = identity_of(name)
    if not identity:
        yield {}
        return
    with TemporaryDirectory(prefix="dync-home-") as home:
        os.chown(home, identity["user"], identity["group"])
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        yield {**identity, "cwd": "/", "env": {"PATH": path, "LANG": "C.UTF-8", "HOME": home}}


def said_by(name: str, *command: str) -> str | None:
    """Run a command of this machine as an account and return its output; None where it fails.

    name: empty for whoever runs this.
    """
    try:
        done = subprocess.run(
            command, cwd="/", check=False, capture_output=True, text=True, timeout=_WITHIN_S,
            **identity_of(name),
        )  # fmt: skip
    except (KeyError, OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout
