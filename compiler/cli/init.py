"""`dync init`: a first profile."""

from __future__ import annotations

import click


@click.command("init")
@click.argument("topology", type=click.Choice(["agg", "disagg"]), default="agg")
@click.option("-o", "--out", metavar="FILE", help="Write here. Default: standard output.")
def init_command(topology: str, out: str | None) -> None:
    """Write a commented profile to edit.

    agg has one kind of worker, disagg separate prefill and decode workers. Default: agg.
    """
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
