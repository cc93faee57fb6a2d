"""`dync diff`: what one deployment changes over another; ends with 2 where something does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compiler.cli.echo import echo
from compiler.cli.hosts import host_of, refusing, root_option, user_option
from compiler.cli.profiles import FAILED, overrides_option, planned

if TYPE_CHECKING:
    from compiler.diff.restarts import Bundle, Change

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


@click.command("diff", cls=_OneForErrors)
@click.argument("new", metavar="NEW")
@click.argument("old", metavar="[OLD]", required=False)
@overrides_option
@root_option
@user_option
@refusing
def diff_command(
    new: str, old: str | None, overrides: tuple[str, ...], root: str, for_user: bool
) -> None:
    """Show what a new profile or bundle would change.

    That is what NEW changes in place of OLD, and which processes restart. Each is a profile or the
    folder of a bundle; OLD is what is installed where it is left out.

    Ends with 0 where nothing changes, 2 where something does, 1 for an error.
    """
    from compiler.deploy.install.generations import read_bundle
    from compiler.deploy.installation import Installation
    from compiler.diff.plan_diff import plan_differences
    from compiler.diff.restarts import Action, changes, other_lines

    coming = _read(new, overrides)
    if old is not None:
        present: Bundle | None = _read(old, (), coming)
    else:
        installation = Installation(host=host_of(root, for_user), name=coming.plan.name)
        number = installation.current
        folder = installation.folder(number or 0)
        present = None if number is None else read_bundle(folder)
    lines = list(plan_differences(present.plan, coming.plan)) if present else []
    found = changes(present, coming)
    lines += _change_lines(found, present, coming)
    others = other_lines(present, coming) if present else ()
    if others:
        text = f"also change, and restart nothing: {', '.join(others)}"
        lines.append(click.wrap_text(text, 100, subsequent_indent="  "))
    if lines:
        echo("\n".join(lines))
    is_same = not others and all(change.action is Action.KEEPS for change in found)
    sys.exit(0 if is_same else CHANGED)


def _read(named: str, overrides: tuple[str, ...], other: Bundle | None = None) -> Bundle:
    """Read a bundle, or build a profile's in memory; a profile with errors ends the command.

    other: the side that is there already, with which equal texts are shared.
    """
    from compiler.deploy.install.generations import read_bundle
    from compiler.diff.restarts import Bundle
    from compiler.emit.compared import ComparedTexts
    from compiler.library import templates

    if Path(named).is_dir():
        if overrides:
            raise click.UsageError(f"--set is for a profile: {named} is built already")
        return read_bundle(Path(named))
    plan = planned(named, overrides)
    if other is not None and plan == other.plan and other.is_emitted:
        return other
    return Bundle(plan=plan, texts=ComparedTexts(plan, templates()))


def _change_lines(found: tuple[Change, ...], old: Bundle | None, new: Bundle) -> Iterator[str]:
    """Say each process's fate, and a restart's reasons: the plans', or the files' without any."""
    from compiler.diff.plan_diff import process_differences
    from compiler.diff.restarts import Action, file_lines

    for change in found:
        name = change.process
        with_ = f" with {change.because_of}" if change.because_of else ""
        yield f"{name}: {change.action.value}{with_}"
        if old is not None and change.action is Action.RESTARTS and not change.because_of:
            before, after = old.plan.by_name[name], new.plan.by_name[name]
            lines = process_differences(before, after) or file_lines(old, new, name)
            yield from (f"  {line}" for line in lines)
