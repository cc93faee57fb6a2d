"""`dync graph`: a profile's topology as a picture."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from compiler.cli.echo import echo
from compiler.cli.profiles import overrides_option, planned
from compiler.emit.quoting import comment


@click.command("graph")
@click.argument("profile")
@click.option("-o", "--out", metavar="FILE", help="Write here. Default: standard output.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["svg", "mermaid"]),
    help="Default: mermaid for a FILE that ends in .mmd or .mermaid, else svg.",
)
@overrides_option
def graph_command(
    profile: str, out: str | None, style: str | None, overrides: tuple[str, ...]
) -> None:
    """Draw a profile's topology as SVG or Mermaid.

    The picture has processes, GPUs, ports, cache tiers and where KV flows.
    """
    from compiler.emit.picture.mermaid import mermaid
    from compiler.emit.picture.svg import picture
    from compiler.emit.render import Renderer
    from compiler.library import templates

    plan = planned(profile, overrides)
    is_mermaid = (style or _style_of(out)) == "mermaid"
    text = mermaid(plan) if is_mermaid else picture(plan, Renderer(templates()))
    if out is None:
        sys.stdout.buffer.write(text.encode())
        return
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {comment(out)}: {error.strerror}") from error
    echo(f"wrote {comment(out)}")


def _style_of(out: str | None) -> str:
    return "mermaid" if out is not None and Path(out).suffix in (".mmd", ".mermaid") else "svg"
