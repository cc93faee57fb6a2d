"""Commands that act on a deployment under systemd; like cli.py, they alone print and exit."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from compiler.deploy.installation import Host, Installation

F = TypeVar("F", bound=Callable[..., Any])

root_option = click.option(
    "--root",
    metavar="DIR",
    default="/",
    help="Work on the system image below DIR; nothing is started.",
)
user_option = click.option("--user", "for_user", is_flag=True, help="Your own systemd manager.")
_overwrite = click.option(
    "--overwrite", is_flag=True, help="Also replace units and files that were changed by hand."
)
_no_start = click.option("--no-start", is_flag=True, help="Put in place and enable only.")
_no_verify = click.option(
    "--no-verify", is_flag=True, help="Call it serving once it answers, without a proof."
)
_named_argument = click.argument("named", metavar="DEPLOYMENT")


def refusing(function: F) -> F:
    """Turn what the host refuses into an error message."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        from compiler.errors import HostError

        try:
            return function(*args, **kwargs)
        except HostError as error:
            raise click.ClickException(str(error)) from error

    return run  # type: ignore[return-value]


@click.command()
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
def install(
    bundle: str,
    root: str,
    for_user: bool,
    no_start: bool,
    no_verify: bool,
    overwrite: bool,
    create_user: bool,
    passed: tuple[str, ...],
) -> None:
    """Install a bundle under systemd, wait until it answers, and prove that it caches.

    A deployment that is there already is upgraded: only processes whose own files changed restart,
    and if the new generation does not serve, or `dync verify` fails, the old one comes back.
    """
    from compiler.deploy.install.environment_file import write_environment
    from compiler.deploy.install.install import Choices, WentBack
    from compiler.deploy.install.install import install as put
    from compiler.deploy.installation import read_plan
    from compiler.library import known_stack

    host = host_of(root, for_user)
    plan = read_plan(Path(bundle))
    choices = Choices(
        start=not no_start, verify=not no_verify, overwrite=overwrite, create_user=create_user
    )
    if passed:
        write_environment(host, plan.name, {name: os.environ.get(name, "") for name in passed})
    try:
        put(Path(bundle), host, choices, click.echo, stack=known_stack(plan.stack))
    except WentBack as error:
        raise click.ClickException(f"{error}\nits log: {_log_command(host, error.unit)}") from error


@click.command()
@_named_argument
@click.option("--to", type=click.IntRange(1), metavar="N", help="A generation, not the one before.")
@root_option
@user_option
@_no_start
@_overwrite
@refusing
def rollback(
    named: str, to: int | None, root: str, for_user: bool, no_start: bool, overwrite: bool
) -> None:
    """Go back to the generation that was current before this one.

    DEPLOYMENT is a bundle's folder, or the name of what is installed.
    """
    from compiler.deploy.install.install import Choices, WentBack
    from compiler.deploy.install.install import rollback as go_back

    host = host_of(root, for_user)
    choices = Choices(start=not no_start, overwrite=overwrite)
    try:
        go_back(_installation(host, named), to, choices, click.echo)
    except WentBack as error:
        raise click.ClickException(f"{error}\nits log: {_log_command(host, error.unit)}") from error


@click.command()
@_named_argument
@click.option("--purge", is_flag=True, help="Also remove its state, caches and settings.")
@root_option
@user_option
@_overwrite
@refusing
def uninstall(named: str, purge: bool, root: str, for_user: bool, overwrite: bool) -> None:
    """Stop a deployment and take its units and generations away; data stays."""
    from compiler.deploy.install.install import uninstall as take_away

    host = host_of(root, for_user)
    take_away(_installation(host, named), purge=purge, overwrite=overwrite, say=click.echo)


def host_of(root: str, for_user: bool) -> Host:
    """Return the host that the options name."""
    from compiler.deploy.installation import system_host, user_host

    if not for_user:
        if not Path(root).is_dir():
            raise click.UsageError(f"--root {root} is no folder")
        return system_host(Path(root).resolve())
    if root != "/":
        raise click.UsageError("--root is for the system's units: leave --user out")
    return user_host(os.environ)


def _installation(host: Host, named: str) -> Installation:
    from compiler.deploy.deployment import installed
    from compiler.deploy.installation import read_plan

    is_bundle = (Path(named) / "plan.json").is_file()
    return installed(host, read_plan(Path(named)).name if is_bundle else named)


def _log_command(host: Host, unit: str) -> str:
    return f"journalctl {'--unit' if host.is_system else '--user-unit'} {unit}"


COMMANDS = (install, rollback, uninstall)
