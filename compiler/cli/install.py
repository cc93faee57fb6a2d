"""`dync install`, `rollback` and `uninstall`: a deployment under systemd."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compiler.cli.echo import echo
from compiler.cli.hosts import host_of, refusing, root_option, user_option

if TYPE_CHECKING:
    from compiler.deploy.installation import Host, Installation

_overwrite = click.option(
    "--overwrite", is_flag=True, help="Also replace units and files that were changed by hand."
)
_no_start = click.option("--no-start", is_flag=True, help="Put in place and enable only.")
_no_verify = click.option(
    "--no-verify", is_flag=True, help="Call it serving once it answers, without a proof."
)
_named_argument = click.argument("named", metavar="DEPLOYMENT")


@click.command("install")
@click.argument("bundle", metavar="BUNDLE")
@root_option
@user_option
@_no_start
@_no_verify
@_overwrite
@click.option(
    "--create-user", is_flag=True, help="Make the account deploy.user if it is not there."
)
@click.option(
    "--pass",
    "passed",
    multiple=True,
    type=click.Choice(["HF_TOKEN", "HF_HOME"]),
    help="Keep this variable of your shell for the processes (a root-only file).",
)
@refusing
def install_command(
    bundle: str,
    root: str,
    for_user: bool,
    no_start: bool,
    no_verify: bool,
    overwrite: bool,
    create_user: bool,
    passed: tuple[str, ...],
) -> None:
    """Install a bundle under systemd and prove that it caches.

    It waits until the deployment answers. A deployment that is there already is upgraded: only
    processes whose own files changed restart, and if the new generation does not serve, or `dync
    verify` fails, the old one comes back.
    """
    from compiler.deploy.install.install import Choices, install
    from compiler.deploy.install.switch import WentBack
    from compiler.deploy.installation import read_plan
    from compiler.errors import HostError
    from compiler.library import known_stack

    host = host_of(root, for_user)
    plan = read_plan(Path(bundle))
    choices = Choices(
        start=not no_start,
        verify=not no_verify,
        overwrite=overwrite,
        create_user=create_user,
        passed={name: os.environ.get(name, "") for name in passed},
    )
    for name in passed:
        files = {process.secrets[name] for process in plan.processes if name in process.secrets}
        if files:
            raise HostError(f"{name} comes from {', '.join(sorted(files))}: leave --pass out")
    try:
        install(Path(bundle), host, choices, echo, stack=known_stack(plan.stack))
    except WentBack as error:
        raise click.ClickException(f"{error}\nits log: {_log_command(host, error.unit)}") from error


@click.command("rollback")
@_named_argument
@click.option(
    "--to", type=click.IntRange(1), metavar="N", help="This generation, not the one before."
)
@root_option
@user_option
@_no_start
@_overwrite
@refusing
def rollback_command(
    named: str, to: int | None, root: str, for_user: bool, no_start: bool, overwrite: bool
) -> None:
    """Go back to the generation before.

    DEPLOYMENT is a bundle's folder, or the name of what is installed.
    """
    from compiler.deploy.install.install import Choices, rollback
    from compiler.deploy.install.switch import WentBack

    host = host_of(root, for_user)
    choices = Choices(start=not no_start, overwrite=overwrite)
    try:
        rollback(_installation(host, named), to, choices, echo)
    except WentBack as error:
        raise click.ClickException(f"{error}\nits log: {_log_command(host, error.unit)}") from error


@click.command("uninstall")
@_named_argument
@click.option("--purge", is_flag=True, help="Also remove its state, caches and settings.")
@root_option
@user_option
@_overwrite
@refusing
def uninstall_command(named: str, purge: bool, root: str, for_user: bool, overwrite: bool) -> None:
    """Stop a deployment and remove its units; data stays.

    DEPLOYMENT is a bundle's folder, or the name of what is installed. Its generations go too.
    """
    from compiler.deploy.install.install import uninstall

    host = host_of(root, for_user)
    uninstall(_begun(host, named), purge=purge, overwrite=overwrite, say=echo)


def _installation(host: Host, named: str) -> Installation:
    from compiler.deploy.deployment import installed

    return installed(host, _name(named))


def _begun(host: Host, named: str) -> Installation:
    """Return what is installed, or what an installation left that was killed."""
    from compiler.deploy.installation import Installation
    from compiler.write.plan_forms import NAME

    name = _name(named)
    found = Installation(host=host, name=name)
    return found if NAME.fits(name) and found.numbers else _installation(host, named)


def _name(named: str) -> str:
    """Return the name of a deployment that is named by itself or by its bundle."""
    from compiler.deploy.installation import is_bundle, read_plan

    folder = Path(named)
    return read_plan(folder).name if is_bundle(folder) else named


def _log_command(host: Host, unit: str) -> str:
    return f"journalctl {'--unit' if host.is_system else '--user-unit'} {unit}"
