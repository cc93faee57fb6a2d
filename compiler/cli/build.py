"""`dync build`: the bundles of profiles."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from compiler.cli.echo import echo
from compiler.cli.profiles import (
    FAILED,
    compile_named,
    format_option,
    overrides_option,
    print_findings,
    profiles_argument,
    strict_option,
)
from compiler.emit.quoting import comment
from compiler.pipeline import found_together


@click.command("build")
@profiles_argument
@click.option("-o", "--out", "out", metavar="DIR", help="The bundle. Default: build/NAME.")
@overrides_option
@strict_option
@format_option
@click.option("--overwrite", is_flag=True, help="Replace a bundle that was changed by hand.")
def build_command(
    profiles: tuple[str, ...],
    out: str | None,
    overrides: tuple[str, ...],
    strict: bool,
    style: str,
    overwrite: bool,
) -> None:
    """Write a profile's bundle: scripts, engine files, units.

    A bundle is written whole or not at all. Ends as `dync check` does.
    """
    from compiler.emit.bundle import Emitted
    from compiler.library import templates
    from compiler.write.bundle import write
    from compiler.write.manifest import NotWritten, written_files

    if out is not None and len(profiles) > 1:
        raise click.UsageError("-o names one bundle: give one profile")
    if out is not None and Path.cwd().is_relative_to(Path(out).resolve()):
        raise click.UsageError(
            f"-o {comment(out)} is where you are: name a folder in it, -o bundle"
        )
    compiled = [compile_named(name, overrides) for name in profiles]
    if print_findings(compiled, found_together(compiled), strict=strict, style=style):
        sys.exit(FAILED)
    texts = templates()
    plans = [item.resolved.plan for item in compiled if item.resolved is not None]
    if len({plan.name for plan in plans}) < len(plans):
        raise click.UsageError("two of these profiles have the same name: give each its own")
    compiled.clear()  # a profile's text and tree, which thousands of workers make large
    for plan in plans:
        place = Path(out) if out is not None else Path("build") / plan.name
        try:
            changed = write(Emitted(plan, texts), place, overwrite=overwrite)
            files = len(written_files(place))
        except NotWritten as error:
            raise click.ClickException(comment(str(error))) from error
        if style == "text":
            what, shown = "wrote" if changed else "unchanged", comment(str(place))
            echo(f"{what} {shown}: {files} files, {len(plan.processes)} processes")
            echo(f"start it: dync up {shown}, or: dync install {shown}")
    sys.exit(0)
