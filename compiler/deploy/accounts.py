"""Accounts of a host: who is there, and what one of them may do."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import Any

from compiler.deploy.installation import Host

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
        text = host.at(Path("/etc/passwd")).read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    line = re.search(rf"^{re.escape(name)}:[^:\n]*:([0-9]+):([0-9]+):", text, re.MULTILINE)
    return (int(line[1]), int(line[2])) if line else None


def said_by(name: str, *command: str) -> str | None:
    """Run a command of this machine as an account and return its output; None where it fails.

    name: empty for whoever runs this.
    """
    identity: dict[str, Any] = {}
    try:
        if name and (entry := pwd.getpwnam(name)).pw_uid != os.geteuid():
            groups = os.getgrouplist(name, entry.pw_gid)
            identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
        done = subprocess.run(
            command, cwd="/", check=False, capture_output=True, text=True, timeout=_WITHIN_S,
            **identity,
        )  # fmt: skip
    except (KeyError, OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout
