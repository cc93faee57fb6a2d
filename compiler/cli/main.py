"""The `dync` command: which commands it has, and under which headings."""

from __future__ import annotations

import click

from compiler import __version__
from compiler.cli.build import build_command
from compiler.cli.check import check_command
from compiler.cli.diff import diff_command
from compiler.cli.explain import explain_command
from compiler.cli.graph import graph_command
from compiler.cli.init import init_command
from compiler.cli.install import install_command, rollback_command, uninstall_command
from compiler.cli.observe import doctor_command, logs_command, status_command, verify_command
from compiler.cli.schema import schema_command
from compiler.cli.sections import SectionedGroup, Sections
from compiler.cli.stack import stack_command
from compiler.cli.up import down_command, up_command

SECTIONS: Sections = {
    "Write": (
        init_command,
        check_command,
        build_command,
        graph_command,
        explain_command,
        schema_command,
    ),
    "Run": (up_command, down_command),
    "Deploy": (install_command, rollback_command, uninstall_command, diff_command),
    "Look": (doctor_command, verify_command, status_command, logs_command),
    "Stacks": (stack_command,),
}


@click.group(
    cls=SectionedGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="start with: dync init",
)
@click.version_option(__version__, prog_name="dync")
def dync() -> None:
    """Compile a profile into a running, caching LMCache and vLLM deployment."""
