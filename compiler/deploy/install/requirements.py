"""What a host must have before a deployment is installed on it."""

from __future__ import annotations

import os
import shutil
import subprocess

from compiler.deploy.accounts import find_account
from compiler.deploy.deployment import Manager
from compiler.deploy.doctor import ownership
from compiler.deploy.doctor.examine import Phase, examine
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Verdict
from compiler.deploy.installation import Host, Installation
from compiler.deploy.systemd import Systemd
from compiler.errors import HostError
from compiler.plan import Plan

_STRAY = ("VLLM_", "LMCACHE_", "PYTHON", "LD_", "CUDA_", "UCX_", "NIXL_", "TORCH")


def refuse_unfit(subject: Subject, *, starts: bool) -> None:
    """Refuse a host that lacks something the deployment needs; name all of it at once.

    starts: whether it is to start too, and not only to be put in place. Errors: HostError.
    """
    placing = examine(subject, (Phase.PLACE,)).failures
    starting = examine(subject, (Phase.START,)).failures if starts else ()
    lines = [finding.line for finding in (*placing, *starting)]
    if starting and not placing:
        lines.append("or put it in place only: --no-start")
    if lines:
        raise HostError("\n  ".join((f"this host is not ready for {subject.plan.name}:", *lines)))


def refuse_other_user(host: Host) -> None:
    """Refuse a system installation by an ordinary user; an image is a folder as any other.

    Errors: HostError.
    """
    if host.is_system and host.is_here and os.geteuid() != 0:
        raise HostError(
            "the system's units are root's: run this with sudo, or give --user to install for "
            "your own systemd manager"
        )


def refuse_stray_environment(systemd: Systemd, plan: Plan) -> None:
    """Refuse where the manager hands every service a variable that changes engines silently.

    Errors: HostError.
    """
    own = {name for process in plan.processes for name in process.env}
    found = sorted(
        name for name in systemd.environment() if name.startswith(_STRAY) and name not in own
    )
    if found:
        scope = "" if systemd.is_system else "--user "
        raise HostError(
            f"systemd hands every service {', '.join(found)}, which changes what the engines do: "
            f"systemctl {scope}unset-environment {' '.join(found)}"
        )


def refuse_others_files(installation: Installation, number: int) -> None:
    """Refuse a generation that others than root can change, or whose stack they can.

    Errors: HostError.
    """
    folder = installation.folder(number)
    subject = Subject(
        plan=installation.plan(number),
        stack=None,
        folder=folder,
        host=installation.host,
        manager=Manager.SYSTEMD,
    )
    found = [item.line for item in ownership.check(subject) if item.verdict is Verdict.FAIL]
    if found:
        raise HostError("\n  ".join((f"generation {number} is not to be trusted:", *found)))


def create_account(host: Host, plan: Plan) -> bool:
    """Make the deployment's account, as a system user without a login; False if it is there.

    Errors: HostError.
    """
    if not host.is_system or find_account(host, plan.user) is not None:
        return False
    if shutil.which("systemd-sysusers") is None:
        raise HostError(
            f"systemd-sysusers is missing: make the account {plan.user} with useradd -r"
        )
    root = () if host.is_here else (f"--root={host.root}",)
    line = f'u {plan.user} - "dync deployments" {host.state}'
    done = subprocess.run(
        ["systemd-sysusers", *root, "--inline", line], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HostError(f"cannot make the account {plan.user}: {done.stderr.strip()}")
    return True
