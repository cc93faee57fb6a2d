"""What `dync up` shows: lines as they come, or a table that lives."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from compiler.cli.echo import echo

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from compiler.deploy.launch.launcher import Launcher
    from compiler.deploy.launch.progress import Progress
    from compiler.plan import Plan

_KILLED = re.compile(r"dync: \S+ is killed\Z")


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


@contextmanager
def plain_display(plan: Plan) -> Iterator[Shown]:
    """Show a launch as lines."""
    yield _Lines(plan)


@contextmanager
def live_display(launch: Launcher, plan: Plan) -> Iterator[Shown]:
    """Show a launch as a table on this terminal."""
    from rich.live import Live

    from compiler.report.terminal import Console

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        yield _Display(launch, plan, live)


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
        echo(line, err=err)
    except OSError:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _error_lines(why: tuple[str, ...]) -> Iterator[str]:
    first, *rest = why
    yield f"dync: error: {first}"
    yield from (f"    {line}" for line in rest)
    yield "    look at it as it runs: dync up --no-verify, then dync verify"


def _say(console: Console, line: str) -> None:
    from rich.text import Text

    style = "bold red" if line.startswith("dync: error") else ""
    console.print(Text(line, style=style), soft_wrap=True)
