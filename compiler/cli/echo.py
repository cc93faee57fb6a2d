"""Print for a terminal what may hold names, paths and words of others."""

from __future__ import annotations

import click

from compiler.report.visible import visible


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text, with nothing in it that steers a terminal."""
    click.echo(visible(text), err=err, nl=nl)
