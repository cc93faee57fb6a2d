"""`dync diff`: what installing a profile would change; ends with 2 where something does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compiler.cli_deploy import host_of, refusing, root_option, user_option
from compiler.cli_profiles import FAILED, compile_named, overrides_option, print_findings

if TYPE_CHECKING:
    from compiler.change import Bundle

CHANGED = 2


class _Misused(click.UsageError):
    """Wrong usage of a command whose status 2 has a meaning."""

    exit_code = FAILED


class _OneForErrors(click.Command):
    """A command whose status 2 means changes: wrong usage ends with 1."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _usage_ends_with_1():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _usage_ends_with_1():
            return super().invoke(ctx)


@contextmanager
def _usage_ends_with_1() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        raise _Misused(error.message, error.ctx) from error


@click.command(cls=_OneForErrors)
@click.argument("profile")
@click.argument("bundle", required=False)
@overrides_option
@root_option
@user_option
@refusing
def diff(
    profile: str, bundle: str | None, overrides: tuple[str, ...], root: str, for_user: bool
) -> None:
    """Show what installing a profile would change, and which processes would restart.

    Compares with the installed generation, or with BUNDLE. Ends with 0 where nothing changes, 2
    where something does, 1 for an error.
    """
    from compiler.change import Bundle, Fate, changes, other_lines
    from compiler.deploy.generations import read_bundle
    from compiler.deploy.host import Deployment
    from compiler.emit import emit
    from compiler.library import templates

    compiled = compile_named(profile, overrides)
    if print_findings([compiled], (), strict=False, style="text") or compiled.resolved is None:
        sys.exit(FAILED)
    plan = compiled.resolved.plan
    new = Bundle(plan=plan, texts={item.path: item.text for item in emit(plan, templates())})
    if bundle is not None:
        old: Bundle | None = read_bundle(Path(bundle))
    else:
        deployment = Deployment(host=host_of(root, for_user), name=plan.name)
        number = deployment.current
        old = None if number is None else read_bundle(deployment.folder(number))
    found = changes(old, new)
    for change in found:
        with_ = f" with {change.because_of}" if change.because_of else ""
        click.echo(f"{change.process}: {change.fate.value}{with_}")
        for line in change.lines:
            click.echo(f"  {line}")
    others = other_lines(old, new) if old else ()
    for path in others:
        click.echo(f"{path}: changes, and restarts nothing")
    is_same = not others and all(change.fate is Fate.KEEPS for change in found)
    sys.exit(0 if is_same else CHANGED)
