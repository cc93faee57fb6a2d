"""The command line: files, streams and exit statuses; everything else is a pure stage."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from compiler import __version__
from compiler.cli.diff import diff
from compiler.cli.graph import graph
from compiler.cli.install import COMMANDS
from compiler.cli.observe import COMMANDS as PROOF_COMMANDS
from compiler.cli.profiles import (
    FAILED,
    compile_named,
    format_option,
    overrides_option,
    print_findings,
    profiles_argument,
    strict_option,
)
from compiler.cli.up import COMMANDS as LAUNCH_COMMANDS
from compiler.library import library
from compiler.pipeline import found_together
from compiler.stacks.stack import Stack


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dync")
def dync() -> None:
    """Compile a profile into a running, caching LMCache and vLLM deployment."""


for _command in (*COMMANDS, *LAUNCH_COMMANDS, *PROOF_COMMANDS, diff, graph):
    dync.add_command(_command)


@dync.command()
@profiles_argument
@overrides_option
@strict_option
@format_option
@click.option("--explain-memory", is_flag=True, help="Also say what the caches hold, in tokens.")
def check(
    profiles: tuple[str, ...],
    overrides: tuple[str, ...],
    strict: bool,
    style: str,
    explain_memory: bool,
) -> None:
    """Say everything there is to say about the profiles; write nothing.

    Several profiles are also checked together, as deployments of one host.
    """
    compiled = [compile_named(name, overrides) for name in profiles]
    together = found_together(compiled)
    failed = print_findings(compiled, together, strict=strict, style=style)
    if not failed and style == "text":
        for name in profiles:
            click.echo(f"{name}: ok")
    if explain_memory and style == "text":
        from compiler.cli.memory import explain

        for item in compiled:
            explain(item)
    sys.exit(FAILED if failed else 0)


@dync.command()
@profiles_argument
@click.option("-o", "--out", "out", metavar="DIR", help="The bundle. Default: build/NAME.")
@overrides_option
@strict_option
@format_option
@click.option("--overwrite", is_flag=True, help="Replace a bundle that was changed by hand.")
def build(
    profiles: tuple[str, ...],
    out: str | None,
    overrides: tuple[str, ...],
    strict: bool,
    style: str,
    overwrite: bool,
) -> None:
    """Write the bundle of each profile: launch.sh, scripts, engine files, plan.json."""
    from compiler.emit.bundle import emit
    from compiler.library import templates
    from compiler.write.bundle import NotWritten, write

    if out is not None and len(profiles) > 1:
        raise click.UsageError("-o names one bundle: give one profile")
    compiled = [compile_named(name, overrides) for name in profiles]
    if print_findings(compiled, found_together(compiled), strict=strict, style=style):
        sys.exit(FAILED)
    texts = templates()
    plans = [item.resolved.plan for item in compiled if item.resolved is not None]
    if len({plan.name for plan in plans}) < len(plans):
        raise click.UsageError("two of these profiles have the same name: give each its own")
    bundles = [(plan, emit(plan, texts)) for plan in plans]
    for plan, artifacts in bundles:
        place = Path(out) if out is not None else Path("build") / plan.name
        try:
            changed = write(artifacts, place, overwrite=overwrite)
        except NotWritten as error:
            raise click.ClickException(str(error)) from error
        if style == "text":
            what = "wrote" if changed else "unchanged"
            click.echo(f"{what} {place}: {len(artifacts)} files, {len(plan.processes)} processes")
            click.echo(f"start it: dync up {place}, or: dync install {place}")
    sys.exit(0)


@dync.command()
@click.argument("topology", type=click.Choice(["agg", "disagg"]), default="agg")
@click.option("-o", "--out", metavar="FILE", help="Write here; default: standard output.")
def init(topology: str, out: str | None) -> None:
    """Write a commented profile to edit."""
    from compiler import shipped_files

    text = shipped_files.template_text(f"init/{topology}.yaml")
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with open(out, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise click.ClickException(f"{out} exists: name another file") from error
    click.echo(f"wrote {out}; next: dync check {out}")


@dync.command()
@click.argument("rule", required=False)
def explain(rule: str | None) -> None:
    """Explain a rule: why, an accepted and a rejected profile, its source."""
    from compiler.diagnostic import suggestion
    from compiler.rules.explain import pages

    known = pages(library().stacks())
    if rule is None:
        for name, page in sorted(known.items()):
            click.echo(f"{name:26} {page.splitlines()[0]}")
        return
    if rule not in known:
        near = suggestion(rule, known)
        hint = f"; did you mean {near}?" if near else "; `dync explain` lists them"
        raise click.UsageError(f"there is no rule {rule!r}{hint}")
    click.echo(f"{rule}: {known[rule].rstrip()}")


@dync.command()
def schema() -> None:
    """Print the profile's JSON Schema, for editors."""
    from compiler import shipped_files

    click.echo(
        (shipped_files.root() / "schemas" / "profile.schema.json").read_text("utf-8"), nl=False
    )


@dync.group()
def stack() -> None:
    """List, show, install and check stacks: released sets of engine versions."""


_stack_name = click.argument("name", metavar="STACK")
_prefix = click.option(
    "--prefix", default="/opt/dync", show_default=True, help="As deploy.prefix of the profile."
)


@stack.command("list")
def stack_list() -> None:
    """List the stacks."""
    for name in library().stack_names:
        shipped = library().load_stack(name)
        click.echo(f"{name:12} {'+'.join(shipped.platforms):9} {shipped.summary}")


@stack.command("show")
@_stack_name
@click.option("--options", is_flag=True, help="Also list every engine option it knows.")
def stack_show(name: str, options: bool) -> None:
    """Show a stack: versions, forms and how they were proved, known cases."""
    from compiler.stacks.combinations import all_known
    from compiler.topology import Accelerator

    shipped = _stack(name)
    click.echo(f"{shipped.name}: {shipped.summary}")
    for part, version in shipped.versions.items():
        click.echo(f"  {part} {version}")
    for accelerator, form in shipped.platforms.items():
        click.echo(f"{accelerator}: {' '.join(form.requirements)}")
        for item in all_known(shipped, Accelerator(accelerator)):
            click.echo(f"  {item.combination}: {item.text}")
        if form.read:
            click.echo(f"  {form.read}")
    for case in shipped.cases:
        click.echo(f"{case.severity} {case.id}: {case.message} ({case.proof})")
    click.echo(f"{len(shipped.engine_options)} engine options")
    if options:
        for option, entry in sorted(shipped.engine_options.items()):
            choices = f" one of {', '.join(map(str, entry.choices))}" if entry.choices else ""
            click.echo(f"  {option}: {' or '.join(entry.types)}{choices}")


@stack.command("install")
@_stack_name
@click.option("--accelerator", type=click.Choice(["cuda", "cpu"]), default="cuda")
@_prefix
@click.option("--python", default=sys.executable, help="The Python to make it with.")
def stack_install(name: str, accelerator: str, prefix: str, python: str) -> None:
    """Make a stack's environment with its exact pins, import every part, write a lock."""
    from rich.console import Console

    from compiler.deploy.stack_environment import StackFailed, install
    from compiler.report.stack_install import shown_steps

    click.echo(f"installing {name} for {accelerator} into {prefix}: minutes, and some GB", err=True)
    try:
        with shown_steps(Console(stderr=True)) as tell:
            folder = install(_stack(name), accelerator, Path(prefix).absolute(), python, tell)
    except StackFailed as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{folder}: whole")


@stack.command("check")
@_stack_name
@click.option("--accelerator", type=click.Choice(["cuda", "cpu"]), help="Default: as installed.")
@_prefix
def stack_check(name: str, accelerator: str | None, prefix: str) -> None:
    """Check an environment against its stack: versions, every part and extension loaded."""
    from compiler.deploy.stack_environment import StackFailed, accelerator_of
    from compiler.deploy.stack_environment import check as look

    shipped, place = _stack(name), Path(prefix).absolute()
    failed = False
    try:
        for item in look(shipped, accelerator or accelerator_of(shipped, place), place):
            failed = failed or not item.holds
            verdict = "ok" if item.holds else f"wrong, wanted {item.wanted}"
            click.echo(f"{item.subject}: {item.found} ({verdict})")
    except StackFailed as error:
        raise click.ClickException(str(error)) from error
    if failed:
        click.echo(f"mend it: dync stack install {name} --prefix {prefix}", err=True)
    sys.exit(FAILED if failed else 0)


def _stack(name: str) -> Stack:
    from compiler.diagnostic import suggestion

    if name not in library().stack_names:
        near = suggestion(name, library().stack_names)
        hint = f"; did you mean {near}?" if near else "; `dync stack list` lists them"
        raise click.UsageError(f"there is no stack {name!r}{hint}")
    return library().load_stack(name)
