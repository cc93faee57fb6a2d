"""`dync check`: everything there is to say about profiles."""

from __future__ import annotations

import sys

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


@click.command("check")
@profiles_argument
@overrides_option
@strict_option
@format_option
@click.option("--explain-memory", is_flag=True, help="Also say what the caches hold, in tokens.")
def check_command(
    profiles: tuple[str, ...],
    overrides: tuple[str, ...],
    strict: bool,
    style: str,
    explain_memory: bool,
) -> None:
    """Say what is wrong with profiles; write nothing.

    Several profiles are also checked together, as deployments of one host. Ends with 0 where they
    can be built, 1 for an error, 2 for wrong usage.
    """
    compiled = [compile_named(name, overrides) for name in profiles]
    together = found_together(compiled)
    failed = print_findings(compiled, together, strict=strict, style=style)
    if not failed and style == "text":
        for name in profiles:
            echo(f"{comment(name)}: ok")
    if explain_memory and style == "text":
        from compiler.cli.memory import print_memory

        for item in compiled:
            print_memory(item)
    sys.exit(FAILED if failed else 0)
