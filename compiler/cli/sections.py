"""A group of commands whose help lists them under headings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from compiler.report.visible import visible

Sections = Mapping[str, Sequence[click.Command]]


class SectionedGroup(click.Group):
    """The commands of its sections, listed in their order."""

    def __init__(self, *, sections: Sections, **given: Any) -> None:
        """Take the commands by their headings."""
        commands = [command for section in sections.values() for command in section]
        super().__init__(commands=commands, **given)
        self.sections = sections

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it refuses may quote names and files that others wrote."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            setattr(error, "message", visible(error.message))  # noqa: B010 -- click has it final
            raise

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 -- click passes it
        formatter: click.HelpFormatter,
    ) -> None:
        """Write a list for each heading, with the texts below one another."""
        wide = max(map(len, self.commands))
        room = formatter.width - wide - 4
        for heading, section in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(str(it.name).ljust(wide), it.get_short_help_str(room)) for it in section]
                )
