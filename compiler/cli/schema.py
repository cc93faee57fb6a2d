"""`dync schema`: what a profile may say, for programs."""

from __future__ import annotations

import click

from compiler.cli.echo import echo


@click.command("schema")
def schema_command() -> None:
    """Print the profile's JSON Schema, for editors."""
    from compiler import shipped_files

    echo((shipped_files.root() / "schemas" / "profile.schema.json").read_text("utf-8"), nl=False)
