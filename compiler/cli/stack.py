"""`dync stack`: the released sets of engine versions, and their environments."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from compiler.cli.echo import echo
from compiler.cli.profiles import FAILED
from compiler.library import library
from compiler.stacks.stack import Stack

_stack_name = click.argument("name", metavar="STACK")
_prefix = click.option(
    "--prefix",
    metavar="DIR",
    default="/opt/dync",
    show_default=True,
    help="As deploy.prefix of the profile.",
)


@click.group("stack")
def stack_command() -> None:
    """List, show, install and check releases of the engines.

    A stack is a set of engine versions that were released together.
    """


@stack_command.command("list")
def stack_list() -> None:
    """List the stacks."""
    for name in library().stack_names:
        shipped = library().load_stack(name)
        echo(f"{name:12} {'+'.join(shipped.platforms):9} {shipped.summary}")


@stack_command.command("show")
@_stack_name
@click.option("--options", is_flag=True, help="Also list every engine option that it has.")
def stack_show(name: str, options: bool) -> None:
    """Show a stack's versions, what was run, and known issues."""
    from compiler.stacks.combinations import all_known
    from compiler.stacks.lock import parse_lock
    from compiler.topology import Accelerator

    shipped = _stack(name)
    echo(f"{shipped.name}: {shipped.summary}")
    for part, version in shipped.versions.items():
        echo(f"  {part} {version}")
    for accelerator, form in shipped.platforms.items():
        echo(f"{accelerator}: {' '.join(form.requirements)}")
        for machine in shipped.architectures:
            text = shipped.lock_text(accelerator, machine)
            pythons = ", ".join(parse_lock(text).pythons) if text else ""
            says = f"locked for Python {pythons}" if pythons else "no lock"
            echo(f"  {machine}: {says}")
        for item in all_known(shipped, Accelerator(accelerator)):
            echo(f"  {item.combination}: {item.text}")
        if form.read:
            echo(f"  {form.read}")
    for case in shipped.cases:
        echo(f"{case.severity} {case.id}: {case.message} ({case.proof})")
    echo(f"{len(shipped.engine_options)} engine options")
    if options:
        for option, entry in sorted(shipped.engine_options.items()):
            choices = f" one of {', '.join(map(str, entry.choices))}" if entry.choices else ""
            echo(f"  {option}: {' or '.join(entry.types)}{choices}")


@stack_command.command("install")
@_stack_name
@click.option(
    "--accelerator",
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    show_default=True,
    help="What the engines run on.",
)
@_prefix
@click.option(
    "--python",
    metavar="PYTHON",
    default=sys.executable,
    help="The Python that makes the environment. Default: dync's own.",
)
@click.option(
    "--unlocked",
    is_flag=True,
    help="Resolve the stack's pins anew and check no hashes, where no lock fits.",
)
def stack_install(name: str, accelerator: str, prefix: str, python: str, unlocked: bool) -> None:
    """Install a stack by its lock and load every part.

    A lock names every package, its version and the hash of its files. They go into an environment
    of their own, DIR/stacks/STACK. It takes minutes and some GB.
    """
    from compiler.deploy.stack_check import StackFailed, check
    from compiler.deploy.stack_environment import install
    from compiler.report.stack_install import shown_steps
    from compiler.report.terminal import Console

    echo(f"installing {name} for {accelerator} into {prefix}: minutes, and some GB", err=True)
    shipped, place = _stack(name), Path(prefix).absolute()
    try:
        with shown_steps(Console(stderr=True)) as tell:
            folder = install(shipped, accelerator, place, python, tell, unlocked=unlocked)
        found = list(check(shipped, accelerator, place, loads=False))
    except StackFailed as error:
        raise click.ClickException(str(error)) from error
    echo(f"{folder}: whole")
    for item in found:
        if item.subject == "lock":
            echo(f"lock: {item.found}")


@stack_command.command("check")
@_stack_name
@click.option("--accelerator", type=click.Choice(["cuda", "cpu"]), help="Default: as installed.")
@_prefix
def stack_check(name: str, accelerator: str | None, prefix: str) -> None:
    """Check an installed stack: versions, its lock, every part loaded.

    Ends with 0 if it is whole, 1 if not.
    """
    from compiler.deploy.stack_check import StackFailed, accelerator_of, check

    shipped, place = _stack(name), Path(prefix).absolute()
    failed = False
    try:
        for item in check(shipped, accelerator or accelerator_of(shipped, place), place):
            failed = failed or not item.holds
            works = "works, to be noted" if item.noted else "ok"
            verdict = works if item.holds else f"wrong, wanted {item.wanted}"
            echo(f"{item.subject}: {item.found} ({verdict})")
    except StackFailed as error:
        raise click.ClickException(str(error)) from error
    if failed:
        echo(f"fix it: dync stack install {name} --prefix {prefix}", err=True)
    sys.exit(FAILED if failed else 0)


def _stack(name: str) -> Stack:
    from compiler.diagnostic import suggestion

    if name not in library().stack_names:
        near = suggestion(name, library().stack_names)
        hint = f"; did you mean {near}?" if near else "; `dync stack list` lists them"
        raise click.UsageError(f"there is no stack {name!r}{hint}")
    return library().load_stack(name)
