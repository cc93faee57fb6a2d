"""`dync up` and `dync down`: a bundle launched here, in front of a terminal or behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compiler.bundle_paths import LAUNCH_LOG
from compiler.cli.echo import echo
from compiler.cli.hosts import refusing

if TYPE_CHECKING:
    from compiler.cli.launch_display import Shown
    from compiler.deploy.launch.launcher import Launcher
    from compiler.deploy.verify.first_start import FirstProof

_LOOK_S = 0.25
NOT_PROVED = 7
"""The exit status of `dync up` where launch.sh serves and `dync verify` says that it fails."""
_bundle = click.argument("bundle", metavar="BUNDLE")


@click.command("up")
@_bundle
@click.option("-d", "--detach", is_flag=True, help="Return once it serves; `dync down` stops it.")
@click.option("--plain", is_flag=True, help="Print lines, no display, as without a terminal.")
@click.option("--no-verify", is_flag=True, help="Call it serving once it answers, without a proof.")
@refusing
def up_command(bundle: str, detach: bool, plain: bool, no_verify: bool) -> None:
    """Start a bundle here and prove that it caches.

    One Ctrl-C stops it. Logs are in BUNDLE/logs. Before it is called serving, `dync verify` runs,
    once for each bundle and host; where that fails, the deployment is stopped.

    It runs the bundle's own launch.sh, whose switches (ENABLE_LMCACHE=0 and others) are read from
    the environment, and ends with its exit status: 0 stopped on request, 2 a wrong switch or
    secret, 3 a port or the bundle is in use, 4 a process ended before the deployment served, 5 one
    was not ready in time, 6 one ended later; and with 7 where it is not proved.
    """
    from compiler.cli.launch_display import live_display, plain_display
    from compiler.deploy.doctor.ownership import refuse_others_launch
    from compiler.deploy.installation import read_plan
    from compiler.deploy.launch.launcher import Launcher, become_launch
    from compiler.deploy.launch.lock import runner

    folder = Path(bundle)
    if os.geteuid() == 0 and os.stat("/").st_uid == 0:  # not of a user's own namespace
        folder = folder.resolve()  # what is looked at is what runs
        refuse_others_launch(read_plan(folder), folder)
    plan = read_plan(folder)
    display = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not plain
    if no_verify and not display and not detach:
        sys.stdout.flush()
        become_launch(folder)
    behind = detach and runner(folder) is None  # one that runs keeps its log
    with _signals() as hand_to, Launcher(folder, behind=behind) as launch:
        hand_to(launch)
        with live_display(launch, plan) if display else plain_display(plan) as shown:
            status = _follow(launch, shown, proves=not no_verify, until_it_serves=detach)
    if status is not None:
        sys.exit(status)
    echo(f"{plan.name} runs on; its log is {folder}/{LAUNCH_LOG}; stop it: dync down {bundle}")


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


@click.command("down")
@_bundle
@click.option("--kill", is_flag=True, help="Stop at once: requests that run are lost.")
@refusing
def down_command(bundle: str, kill: bool) -> None:
    """Stop what was started from a bundle.

    By `dync up` or by launch.sh; it waits until all processes are gone. What is left of a launch
    whose launch.sh was killed is named, and ended too.
    """
    from compiler.deploy.installation import read_plan
    from compiler.deploy.launch.launcher import stop
    from compiler.deploy.launch.lock import runner, runs_elsewhere
    from compiler.deploy.launch.marks import end_left, forget, left_of

    folder = Path(bundle)
    plan = read_plan(folder)
    pid, took = runner(folder), 0.0
    if pid is not None:
        echo(f"stopping {plan.name} (launch.sh has pid {pid})")
        took = max(stop(folder, pid, kill=kill), default=0.0)
    left = left_of(folder)
    if pid is None and not left:
        if runs_elsewhere(folder):
            raise click.ClickException(
                f"{plan.name} runs in another PID namespace, as in a container: stop it there"
            )
        echo(f"{plan.name} does not run from {bundle}")
        return
    for item in left:
        echo(f"left of a launch that was killed: {item.said}")
    grace_s = 0 if kill else max(process.stop_s for process in plan.processes)
    took += max(end_left(folder, grace_s=grace_s), default=0.0)
    if left := left_of(folder):
        text = "; ".join(item.said for item in left)
        raise click.ClickException(f"still there: {text}: end it as that account, or as root")
    forget(folder)
    echo(f"{plan.name} stopped after {took:.1f} s")
