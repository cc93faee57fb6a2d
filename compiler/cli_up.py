"""`dync up` and `dync down`: a bundle launched here, in front of a terminal or behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compiler.cli_deploy import refusing

if TYPE_CHECKING:
    from rich.console import Console

    from compiler.deploy.launching import Launch
    from compiler.plan import Plan

_LOOK_S = 0.25
_bundle = click.argument("bundle", metavar="BUNDLE")


@click.command()
@_bundle
@click.option("-d", "--detach", is_flag=True, help="Return once it serves; `dync down` stops it.")
@click.option("--plain", is_flag=True, help="Lines instead of a display, as without a terminal.")
@refusing
def up(bundle: str, detach: bool, plain: bool) -> None:
    """Launch a bundle here, and stop it with one Ctrl-C.

    Runs the bundle's own launch.sh and ends with its exit status: 0 stopped on request, 2 a wrong
    switch or secret, 3 a port or the bundle is in use, 4 a process ended before the deployment
    served, 5 one was not ready in time, 6 one ended later. Its switches (ENABLE_LMCACHE=0, …) are
    read from the environment. Logs: BUNDLE/logs.
    """
    from compiler.deploy.host import read_plan
    from compiler.deploy.launching import LOG, Launch, become_launch

    folder = Path(bundle)
    plan = read_plan(folder)
    display = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not plain
    if not display and not detach:
        sys.stdout.flush()
        become_launch(folder)
    with _signals() as hand_to, Launch(folder, behind=detach, merge=sys.stderr.isatty()) as launch:
        hand_to(launch)
        follow = _show if display else _print
        status = follow(launch, plan, until_it_serves=detach)
    if status is not None:
        sys.exit(status)
    click.echo(f"{plan.name} runs on; its log is {folder}/logs/{LOG}; stop it: dync down {bundle}")


@contextmanager
def _signals() -> Iterator[Callable[[Launch], None]]:
    """Keep what asks this process to stop, for a launch that is given later.

    Before the launch begins: bash cannot trap what it was started with as ignored, as every job in
    the background of a script is for SIGINT. `nohup` means it.
    """
    taker: list[Launch] = []
    asked: list[int] = []

    def hand_on(signum: int, _frame: object) -> None:
        asked.append(signum)
        for launch in taker:
            launch.signal(signum)

    def hand_to(launch: Launch) -> None:
        taker.append(launch)
        for signum in asked:
            launch.signal(signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signum is not signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, hand_on)
    yield hand_to


@click.command()
@_bundle
@click.option("--kill", is_flag=True, help="At once: requests that run are lost.")
@refusing
def down(bundle: str, kill: bool) -> None:
    """Stop what `dync up` or launch.sh has started from a bundle, and wait until it is gone."""
    from compiler.deploy.host import read_plan
    from compiler.deploy.launching import runner, stop

    folder = Path(bundle)
    plan = read_plan(folder)
    pid = runner(folder)
    if pid is None:
        click.echo(f"{plan.name} does not run from {bundle}")
        return
    click.echo(f"stopping {plan.name} (launch.sh has pid {pid})")
    took = max(stop(folder, pid, kill=kill), default=0.0)
    click.echo(f"{plan.name} stopped after {took:.1f} s")


def _print(launch: Launch, plan: Plan, *, until_it_serves: bool) -> int | None:
    """Print lines as they come; give the exit status, or None once it serves."""
    from compiler.deploy.launch_progress import Progress

    progress = Progress.of(plan)
    status = None
    while status is None:
        status = launch.ended(_LOOK_S)
        for line in launch.lines():
            progress.read(line, time.monotonic())
            click.echo(line, err=line.startswith(("dync: error", "    ")))
        if until_it_serves and progress.serves_after and status is None:
            return None
    return status


def _show(launch: Launch, plan: Plan, *, until_it_serves: bool) -> int | None:
    """Show a table that lives; give the exit status, or None once it serves."""
    from rich.console import Console
    from rich.live import Live

    from compiler.deploy.launch_progress import Progress
    from compiler.deploy.launching import last_line
    from compiler.report.launch import launch_view

    progress, console, status = Progress.of(plan), Console(highlight=False), None
    with Live(console=console, auto_refresh=False) as live:
        while status is None:
            status = launch.ended(_LOOK_S)
            now = time.monotonic()
            for line in launch.lines():
                if not progress.read(line, now):
                    _say(console, line)
            progress.notice_gone()
            lasts = {name: last_line(launch.bundle, name) for name in progress.processes}
            live.update(launch_view(progress, lasts, now), refresh=True)
            if until_it_serves and progress.serves_after and status is None:
                return None
    return status


def _say(console: Console, line: str) -> None:
    from rich.text import Text

    style = "bold red" if line.startswith("dync: error") else ""
    console.print(Text(line, style=style), soft_wrap=True)


COMMANDS = (up, down)
