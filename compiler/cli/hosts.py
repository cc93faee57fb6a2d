"""Which host a command acts on, and how it says what the host refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from compiler.deploy.installation import Host

F = TypeVar("F", bound=Callable[..., Any])

root_option = click.option(
    "--root",
    metavar="DIR",
    default="/",
    help="Work on the system image below DIR; nothing is started.",
)
user_option = click.option(
    "--user", "for_user", is_flag=True, help="Use your own systemd manager, not the system's."
)


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


def host_of(root: str, for_user: bool) -> Host:
    """Return the host that the options name."""
    from compiler.deploy.installation import system_host, user_host

    if not for_user:
        if not root or not Path(root).is_dir():
            raise click.UsageError(f"--root {root} is no folder")
        return system_host(Path(root).resolve())
    if root != "/":
        raise click.UsageError("--root is for the system's units: leave --user out")
    return user_host(os.environ)
