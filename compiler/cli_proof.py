"""Commands that tell the truth about a host and about a running deployment."""

from __future__ import annotations

import sys

import click

from compiler.cli_deploy import host_of, refusing, user_option
from compiler.cli_profiles import FAILED

machine_format = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)


@click.command()
@click.argument("deployment", metavar="BUNDLE")
@click.option(
    "--tokens",
    type=click.IntRange(1),
    metavar="N",
    help="About how long the prompt is. Default: 512 on CPUs, 4096 on GPUs.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="For one answer.",
)
@user_option
@machine_format
@refusing
def verify(
    deployment: str, tokens: int | None, timeout_s: float, for_user: bool, style: str
) -> None:
    """Prove on the running deployment that LMCache and NIXL do their work; 1 if they do not.

    BUNDLE is a bundle's folder, or the name of what is installed, however it was started. A new
    prompt is sent twice; it stays in the cache, with at most one more.
    """
    from compiler.deploy.place import find_place
    from compiler.deploy.verify import verify as prove
    from compiler.report.findings import console_for
    from compiler.report.proof import print_proof, proof_json

    place = find_place(host_of("/", for_user), deployment)
    proof = prove(place, tokens, timeout_s)
    if style == "json":
        click.echo(proof_json(proof), nl=False)
    else:
        print_proof(proof, console_for())
    sys.exit(0 if proof.is_proved else FAILED)


COMMANDS = (verify,)
