"""Commands that tell the truth about a host and about a running deployment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from compiler.cli.echo import echo
from compiler.cli.hosts import host_of, refusing, root_option, user_option
from compiler.cli.profiles import FAILED, overrides_option, planned

if TYPE_CHECKING:
    from pathlib import Path

    from compiler.deploy.status.status import Status
    from compiler.plan import Plan

machine_format = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)


@click.command("doctor")
@click.argument("named", metavar="PROFILE")
@overrides_option
@click.option(
    "--install",
    "for_install",
    is_flag=True,
    help="As units of `dync install`, run by deploy.user, and not by your launch.sh.",
)
@root_option
@user_option
@machine_format
def doctor_command(
    named: str, overrides: tuple[str, ...], for_install: bool, root: str, for_user: bool, style: str
) -> None:
    """Check this host against a profile before a start.

    PROFILE is a profile, or the folder of a bundle. `dync install` refuses what fails here with
    --install; --root and --user are those of `dync install`, and mean it. Ends with 0 if the host
    is fit, 1 if something must be fixed.
    """
    from compiler.deploy.doctor.already import subject_of_launch, subject_of_units
    from compiler.deploy.doctor.examine import examine
    from compiler.library import known_stack
    from compiler.report.doctor import checkup_json, print_checkup
    from compiler.report.findings import console_for

    plan, folder = _plan_of(named, overrides)
    stack, host = known_stack(plan.stack), host_of(root, for_user)
    if for_install or for_user or not host.is_here:
        subject = subject_of_units(plan, stack, folder, host)
    else:
        subject = subject_of_launch(plan, stack, folder)
    checkup = examine(subject)
    if style == "json":
        echo(checkup_json(checkup), nl=False)
    else:
        print_checkup(checkup, console_for())
    sys.exit(0 if checkup.is_fit else FAILED)


def _plan_of(named: str, overrides: tuple[str, ...]) -> tuple[Plan, Path]:
    """Return the plan of a bundle or profile, and the bundle's folder or where it would be."""
    from pathlib import Path

    from compiler.deploy.installation import is_bundle, read_plan
    from compiler.errors import HostError

    folder = Path(named)
    if is_bundle(folder):
        if overrides:
            raise click.UsageError("--set is for a profile: a bundle is built already")
        try:
            return read_plan(folder), folder
        except HostError as error:
            raise click.ClickException(str(error)) from error
    plan = planned(named, overrides)
    return plan, Path("build") / plan.name


@click.command("verify")
@click.argument("named", metavar="BUNDLE")
@click.option(
    "--tokens",
    type=click.IntRange(1),
    metavar="N",
    help="About how long a prompt is. Default: 512 on CPUs, 4096 on GPUs.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="How long one answer may take.",
)
@user_option
@machine_format
@refusing
def verify_command(
    named: str, tokens: int | None, timeout_s: float, for_user: bool, style: str
) -> None:
    """Prove that the running deployment caches.

    BUNDLE is a bundle's folder, or the name of what is installed, however it was started. NIXL is
    proved too. Ends with 0 if all is proved, 1 if not.

    It sends a new prompt, then another, then the first again: to workers that answer by
    themselves, and to the frontend. All that it sends, a few prompts, stays in the caches.
    """
    from compiler.deploy.deployment import find_deployment
    from compiler.deploy.doctor.ownership import refuse_others_bundle
    from compiler.deploy.finding import Verdict
    from compiler.deploy.verify.record import keep, record_of
    from compiler.deploy.verify.verify import verify
    from compiler.library import tier_specs
    from compiler.report.findings import console_for
    from compiler.report.verify import print_proof, proof_json

    deployment = find_deployment(host_of("/", for_user), named)
    refuse_others_bundle(deployment)
    proof = verify(deployment, tier_specs(deployment.plan), tokens, timeout_s)
    runs = any(item.check == "as-built" and item.verdict is Verdict.PASS for item in proof.findings)
    if runs and not proof.is_switched:
        keep(deployment, record_of(deployment, proof))
    if style == "json":
        echo(proof_json(proof), nl=False)
    else:
        print_proof(proof, console_for())
    sys.exit(0 if proof.is_proved else FAILED)


@click.command("status")
@click.argument("named", metavar="DEPLOYMENT")
@click.option("-w", "--watch", is_flag=True, help="Look again every few seconds, until Ctrl-C.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.5),
    default=2,
    show_default=True,
    metavar="SECONDS",
    help="How often --watch looks.",
)
@user_option
@machine_format
@refusing
def status_command(named: str, watch: bool, every_s: float, for_user: bool, style: str) -> None:
    """Show each process: state, cache hits, how full caches are.

    DEPLOYMENT is a bundle's folder, or the name of what is installed. Ends with 0 if all processes
    are ready, 1 if not.
    """
    from compiler.deploy.deployment import find_deployment
    from compiler.deploy.doctor.ownership import refuse_others_bundle
    from compiler.deploy.status.status import status
    from compiler.library import known_stack
    from compiler.report.findings import console_for
    from compiler.report.status import print_status, status_json

    if watch and style == "json":
        raise click.UsageError("--watch is for people: leave --format json out")
    host = host_of("/", for_user)

    def now() -> Status:
        deployment = find_deployment(host, named)
        if any(process.secrets for process in deployment.plan.processes):
            refuse_others_bundle(deployment)
        stack = known_stack(deployment.plan.stack)
        return status(deployment, stack.status_metrics if stack else {})

    seen = _watched(now, every_s) if watch else now()
    if style == "json":
        echo(status_json(seen), nl=False)
    elif not watch:
        print_status(seen, console_for())
    sys.exit(0 if seen.is_ready else FAILED)


def _watched(now: Callable[[], Status], every_s: float) -> Status:
    """Show a status again and again until Ctrl-C; return the last one."""
    import time

    from rich.live import Live

    from compiler.report.findings import console_for
    from compiler.report.status import status_view

    seen = now()
    with Live(status_view(seen), console=console_for(), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every_s)
                seen = now()
                live.update(status_view(seen), refresh=True)
        except KeyboardInterrupt:
            return seen


@click.command("logs")
@click.argument("named", metavar="DEPLOYMENT")
@click.argument("process", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines arrive.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    metavar="N",
    default=200,
    show_default=True,
    help="How many lines to begin with.",
)
@user_option
@refusing
def logs_command(named: str, process: str | None, follow: bool, lines: int, for_user: bool) -> None:
    """Show the log of a deployment or of one process.

    DEPLOYMENT is a bundle's folder, or the name of what is installed.
    """
    from compiler.deploy.deployment import find_deployment
    from compiler.deploy.logs import show_command
    from compiler.deploy.systemd import become
    from compiler.diagnostic import suggestion

    deployment = find_deployment(host_of("/", for_user), named)
    names = [str(item.name) for item in deployment.plan.processes]
    if process is not None and process not in names:
        near = suggestion(process, names)
        raise click.UsageError(
            f"{deployment.plan.name} has no process {process!r}"
            + (f"; did you mean {near}?" if near else f"; it has {', '.join(names)}")
        )
    wanted = [item for item in deployment.plan.processes if process in (None, item.name)]
    sys.stdout.flush()
    become(show_command(deployment, wanted, lines, follow=follow))
