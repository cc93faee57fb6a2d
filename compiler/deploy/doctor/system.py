"""The machine itself: architecture, what launch.sh and systemd units need, the clock."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, skipped, warned

_TOOLS = {"bash": "bash", "setsid": "util-linux", "flock": "util-linux", "timeout": "coreutils"}
_BASH, _SYSTEMD = 404, 247
_EARLIEST = time.mktime((2026, 1, 1, 0, 0, 0, 0, 0, 0))
_TIME_ERROR = 5
"""What adjtimex gives where no time service keeps the clock (adjtimex(2), TIME_ERROR)."""


def check_architecture(subject: Subject) -> Iterator[Finding]:
    """Look whether the stack has packages for this machine."""
    stack, machine = subject.stack, platform.machine()
    if stack is None:
        return
    if machine in stack.architectures:
        yield passed("architecture", machine, f"stack {stack.name} has packages for it")
    else:
        wanted = ", ".join(stack.architectures)
        yield failed(
            "architecture",
            machine,
            f"stack {stack.name} has packages for {wanted} only",
            "choose another stack: dync stack list",
        )


def check_tools(_subject: Subject) -> Iterator[Finding]:
    """Look for the programs of the bundle's scripts, which units run too."""
    missing = {tool: package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    for tool, package in missing.items():
        yield failed("tools", tool, "the bundle's scripts need it", f"install {package}")
    if "bash" in missing:
        return
    version = _said("bash", "-c", "echo $((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1]))")
    if not version.isdecimal() or int(version) < _BASH:
        yield failed(
            "tools", "bash", "the bundle's scripts need bash 4.4 or newer", "install a newer bash"
        )
    elif not missing:
        yield passed("tools", "scripts", f"{', '.join(_TOOLS)} are there")


def check_systemd(subject: Subject) -> Iterator[Finding]:
    """Look at systemd, without which launch.sh does."""
    found = re.match(r"systemd (\d+)", _said("systemctl", "--version"))
    version = int(found[1]) if found else 0
    if version >= _SYSTEMD:
        yield passed("systemd", "systemd", f"version {version}")
    elif subject.is_under_systemd:
        text = f"version {version} is installed" if version else "is not installed"
        yield failed(
            "systemd",
            "systemd",
            f"{text}: dync install needs {_SYSTEMD} or newer",
            "apt-get install systemd, or start the bundle's launch.sh",
        )
    elif version:
        yield warned(
            "systemd",
            "systemd",
            f"version {version}: dync install needs {_SYSTEMD} or newer",
            "start the bundle's launch.sh, or upgrade systemd",
        )
    else:
        yield skipped(
            "systemd",
            "systemd",
            "not installed: the bundle's launch.sh needs none",
            "for dync install: apt-get install systemd",
        )


def check_clock(subject: Subject) -> Iterator[Finding]:
    """Look at the clock: certificates of downloads and leases in etcd depend on it."""
    yield _clock(subject)


def _clock(subject: Subject) -> Finding:
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    if time.time() < _EARLIEST:
        return failed(
            "clock", now, "lies before this program was made", "set it: timedatectl set-ntp true"
        )
    buffer = ctypes.create_string_buffer(512)
    kept = ctypes.CDLL(None).adjtimex(buffer) not in (_TIME_ERROR, -1)
    if kept:
        return passed("clock", now, "kept by a time service")
    if subject.plan.services:
        return warned(
            "clock", now, "no time service keeps it, and services on other hosts are used",
            "timedatectl set-ntp true",
        )  # fmt: skip
    return passed("clock", now, "no time service keeps it; nothing of this deployment needs one")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
