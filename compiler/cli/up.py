"""`dync up` and `dync down`: a bundle launched here, in front of a terminal or behind."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from compiler.cli.install import refusing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from compiler.deploy.launch.launcher import Launcher
    from compiler.deploy.launch.progress import Progress
    from compiler.deploy.verify.first_start import FirstProof
    from compiler.plan import Plan

_LOOK_S = 0.25
NOT_PROVED = 7
"""The exit status of `dync up` where launch.sh serves and `dync verify` says that it fails."""
_KILLED = re.compile(r"dync: \S+ is killed\Z")
_bundle = click.argument("bundle", metavar="BUNDLE")


@click.command()
@_bundle
@click.option("-d", "--detach", is_flag=True, help="Return once it serves; `dync down` stops it.")
@click.option("--plain", is_flag=True, help="Lines instead of a display, as without a terminal.")
@click.option("--no-verify", is_flag=True, help="Do not prove what is started here the first time.")
@refusing
def up(bundle: str, detach: bool, plain: bool, no_verify: bool) -> None:
    """Launch a bundle here, prove that it caches, and stop it with one Ctrl-C.

    Runs the bundle's own launch.sh and ends with its exit status: 0 stopped on request, 2 a wrong
    switch or secret, 3 a port or the bundle is in use, 4 a process ended before the deployment
    served, 5 one was not ready in time, 6 one ended later. Its switches (ENABLE_LMCACHE=0, …) are
    read from the environment. Logs: BUNDLE/logs.

    Before it is called serving, `dync verify` runs once for each bundle and host; 7 where that
    fails: the deployment is stopped then.
    """
    from compiler.deploy.installation import read_plan
    from compiler.deploy.launch.launcher import LOG, Launcher, become_launch

    folder = Path(bundle)
    plan = read_plan(folder)
    display = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not plain
    if no_verify and not display and not detach:
        sys.stdout.flush()
        become_launch(folder)
    with _signals() as hand_to, Launcher(folder, behind=detach) as launch:
        hand_to(launch)
        with _display(launch, plan) if display else nullcontext(_Lines(plan)) as shown:
            status = _follow(launch, shown, proves=not no_verify, until_it_serves=detach)
    if status is not None:
        sys.exit(status)
    click.echo(f"{plan.name} runs on; its log is {folder}/logs/{LOG}; stop it: dync down {bundle}")


def _follow(launch: Launcher, shown: Shown, *, proves: bool, until_it_serves: bool) -> int | None:
    """Follow a launch to its end, and prove it once it answers.

    Returns the exit status, or None once it serves.
    """
    from compiler.deploy.verify.first_start import Beside, in_words, refutation

    progress, status, proving, is_sure = shown.progress, None, None, False
    while status is None:
        status = launch.ended(_LOOK_S)
        for line in launch.lines():
            shown.line(line)
        # What is being stopped is not asked any more: it would be refuted by its own end.
        if progress.is_to_be_proved and not progress.is_stopping and status is None:
            if not proves or progress.is_without_lmcache:
                progress.proof = "not asked to be proved"
                shown.serves()
            elif proving is None:
                progress.is_proving = True
                proving = Beside(_prover(launch.bundle, again=bool(progress.switched)))
                shown.answers()
            elif (proof := proving.made) is not None and proof.is_refuted and not is_sure:
                is_sure = True  # unless the next look shows that a stop or a death was the reason
            elif proof is not None:
                proof.keep()
                progress.is_proving, progress.is_refuted = False, proof.is_refuted
                if proof.is_refuted:
                    launch.signal(signal.SIGTERM)
                    shown.refuted(tuple(refutation(progress.name, proof)))
                else:
                    progress.proof = in_words(proof)
                    shown.serves()
        shown.look()
        if until_it_serves and progress.proof and not progress.is_stopping and status is None:
            return None
    return NOT_PROVED if progress.is_refuted else status


def _prover(bundle: Path, *, again: bool) -> Callable[[], FirstProof]:
    """Return what proves a bundle that launch.sh runs."""
    from compiler.deploy.deployment import Deployment, Manager
    from compiler.deploy.installation import read_plan
    from compiler.deploy.verify.first_start import prove
    from compiler.library import tier_specs

    plan = read_plan(bundle)
    specs = tier_specs(plan)
    deployment = Deployment(named=str(bundle), plan=plan, folder=bundle, manager=Manager.LAUNCHER)
    return lambda: prove(deployment, specs, again=again)


@contextmanager
def _signals() -> Iterator[Callable[[Launcher], None]]:
    """Keep what asks this process to stop, for a launch that is given later.

    Before the launch begins: bash cannot trap what it was started with as ignored, as every job in
    the background of a script is for SIGINT. `nohup` means it.
    """
    taker: list[Launcher] = []
    asked: list[int] = []

    def hand_on(signum: int, _frame: object) -> None:
        asked.append(signum)
        for launch in taker:
            launch.signal(signum)

    def hand_to(launch: Launcher) -> None:
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
    from compiler.deploy.installation import read_plan
    from compiler.deploy.launch.launcher import runner, stop

    folder = Path(bundle)
    plan = read_plan(folder)
    pid = runner(folder)
    if pid is None:
        click.echo(f"{plan.name} does not run from {bundle}")
        return
    click.echo(f"stopping {plan.name} (launch.sh has pid {pid})")
    took = max(stop(folder, pid, kill=kill), default=0.0)
    click.echo(f"{plan.name} stopped after {took:.1f} s")


class Shown(Protocol):
    """What shows a launch; it reads each line into `progress`."""

    progress: Progress

    def line(self, line: str) -> None:
        """Take one line of launch.sh."""

    def look(self) -> None:
        """Show how far it is."""

    def answers(self) -> None:
        """Say that it answers, and is being proved."""

    def serves(self) -> None:
        """Say that it serves, and whether that is proved."""

    def refuted(self, why: tuple[str, ...]) -> None:
        """Say why it is not called serving."""


class _Lines:
    """Lines as they come; that it serves is said when it is proved."""

    def __init__(self, plan: Plan) -> None:
        from compiler.deploy.launch.progress import Progress

        self.progress = Progress.of(plan)

    def line(self, line: str) -> None:
        from compiler.deploy.launch.progress import PROVE_HINT

        served = self.progress.serves_after
        is_known = self.progress.read(line, time.monotonic())
        if self.progress.serves_after == served and not PROVE_HINT.match(line):
            _echo(line, err=not (is_known or _KILLED.match(line)))

    def look(self) -> None:
        pass

    def answers(self) -> None:
        progress = self.progress
        _echo(
            f"dync: {progress.name} answers after {progress.serves_after}; "
            "proving that it does what it was built for (--no-verify leaves this out)"
        )

    def serves(self) -> None:
        progress = self.progress
        _echo(
            f"dync: {progress.name} serves at {progress.url} after {progress.serves_after}, "
            f"{progress.proof}"
        )

    def refuted(self, why: tuple[str, ...]) -> None:
        for line in _error_lines(why):
            _echo(line, err=True)


class _Display:
    """A table that lives; what only a person understands stands above it."""

    def __init__(self, launch: Launcher, plan: Plan, live: Live) -> None:
        from compiler.deploy.launch.progress import Progress

        self.progress = Progress.of(plan)
        self._launch, self._live = launch, live

    def line(self, line: str) -> None:
        if not self.progress.read(line, time.monotonic()):
            _say(self._live.console, line)

    def look(self) -> None:
        from compiler.deploy.launch.launcher import last_line
        from compiler.report.up import launch_view

        self.progress.notice_gone()
        lasts = {name: last_line(self._launch.bundle, name) for name in self.progress.processes}
        self._live.update(launch_view(self.progress, lasts, time.monotonic()), refresh=True)

    def answers(self) -> None:
        pass

    def serves(self) -> None:
        pass

    def refuted(self, why: tuple[str, ...]) -> None:
        for line in _error_lines(why):
            _say(self._live.console, line)


def _echo(line: str, *, err: bool = False) -> None:
    """Print a line; a reader that has left stops nothing."""
    try:
        click.echo(line, err=err)
    except OSError:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _error_lines(why: tuple[str, ...]) -> Iterator[str]:
    first, *rest = why
    yield f"dync: error: {first}"
    yield from (f"    {line}" for line in rest)
    yield "    look at it as it runs: dync up --no-verify, then dync verify"


@contextmanager
def _display(launch: Launcher, plan: Plan) -> Iterator[Shown]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        yield _Display(launch, plan, live)


def _say(console: Console, line: str) -> None:
    from rich.text import Text

    style = "bold red" if line.startswith("dync: error") else ""
    console.print(Text(line, style=style), soft_wrap=True)


COMMANDS = (up, down)
