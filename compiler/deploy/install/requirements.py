"""What a host must have before a deployment is installed on it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compiler.deploy.install.tier_folders import tier_problems
from compiler.deploy.installation import Host
from compiler.deploy.systemd import Systemd
from compiler.errors import HostError
from compiler.plan import Plan

_STRAY = ("VLLM_", "LMCACHE_", "PYTHON", "LD_", "CUDA_", "UCX_", "NIXL_", "TORCH")


def refuse_unfit(host: Host, plan: Plan) -> None:
    """Refuse a host that lacks something the deployment needs; name all of it at once.

    Errors: HostError.
    """
    missing = [
        *_account(host, plan),
        *_stack(host, plan),
        *_files(host, plan),
        *tier_problems(host, plan),
    ]
    if missing:
        raise HostError("\n  ".join((f"this host is not ready for {plan.name}:", *missing)))


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


def create_account(host: Host, plan: Plan) -> None:
    """Make the deployment's account, as a system user without a login.

    Errors: HostError.
    """
    if not host.is_system or _has_account(host, plan.user):
        return
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


def _account(host: Host, plan: Plan) -> Iterator[str]:
    if host.is_system and not _has_account(host, plan.user):
        yield (
            f"there is no account {plan.user} (deploy.user): give --create-user, or name another "
            "in the profile"
        )


def _has_account(host: Host, user: str) -> bool:
    if host.is_here:
        try:
            pwd.getpwnam(user)
        except KeyError:
            return False
        return True
    try:
        lines = host.at(Path("/etc/passwd")).read_text("utf-8").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{user}:") for line in lines)


def _stack(host: Host, plan: Plan) -> Iterator[str]:
    program = Path(plan.stack_program)
    prefix = program.parents[3]
    make = f"dync stack install {plan.stack} --accelerator {plan.accelerator.value}"
    if not os.path.lexists(host.at(program)):
        yield f"there is no stack at {program}: {make} --prefix {prefix}"
        return
    if host.is_here and _said(host, plan, str(program), "-c", "pass") is None:
        yield (
            f"{_who(host, plan)} cannot run {program}: every folder above it must be open to that "
            "account (chmod o+x), or install the stack elsewhere and set deploy.prefix"
        )


def _files(host: Host, plan: Plan) -> Iterator[str]:
    if plan.model.startswith("/"):
        yield from _model(host, plan)
    key = plan.api_key_file
    for file in dict.fromkeys(
        file for process in plan.processes for file in process.secrets.values()
    ):
        if not host.at(Path(file)).is_file():
            what = "frontend.api_key_file" if file == key else "password_file of a tier"
            word = "key" if file == key else "password"
            yield f"there is no file {file} ({what}): write the {word} there, mode 600"


def _model(host: Host, plan: Plan) -> Iterator[str]:
    """Look for what would otherwise be found after a minute of loading."""
    if not host.at(Path(plan.model)).is_dir():
        yield f"there is no model folder {plan.model} (model.id)"
    elif host.is_here:
        closed = _said(host, plan, "find", "-L", plan.model, "!", "-readable", "-print", "-quit")
        if closed is None or closed:
            yield (
                f"{_who(host, plan)} cannot read {(closed or plan.model).strip()} (model.id): "
                f"chmod -R a+rX {plan.model}, and the folders above it"
            )


def _who(host: Host, plan: Plan) -> str:
    return f"the account {plan.user}" if host.is_system else "you"


def _said(host: Host, plan: Plan, *command: str) -> str | None:
    """Run a command as the processes' account; None where it fails.

    Without the account, which is reported by itself, nothing is tried.
    """
    account: dict[str, Any] = {}
    if host.is_system:
        if not _has_account(host, plan.user):
            return ""
        entry = pwd.getpwnam(plan.user)
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    try:
        done = subprocess.run(
            command, cwd="/", check=False, capture_output=True, text=True, timeout=60, **account
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout
