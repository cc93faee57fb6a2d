"""Show the steps of a long installation: live on a terminal, else a line for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from compiler.deploy.stack_environment import Tell


@contextmanager
def shown_steps(console: Console) -> Iterator[Tell]:
    """Return what an installation tells its steps to."""
    if not console.is_terminal:
        yield _lines(console)
        return
    progress = Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn(
            "{task.fields[line]}",
            style="dim",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=console,
        expand=True,
    )
    with progress:
        yield _tasks(progress)
        for task in progress.task_ids:
            progress.update(task, completed=1, line="")


def _tasks(progress: Progress) -> Tell:
    tasks: dict[str, TaskID] = {}

    def tell(step: str, line: str) -> None:
        if step not in tasks:
            for task in tasks.values():
                progress.update(task, completed=1, line="")
            tasks[step] = progress.add_task(step, total=1, line="")
        progress.update(tasks[step], line=line)

    return tell


def _lines(console: Console) -> Tell:
    told: set[str] = set()

    def tell(step: str, _line: str) -> None:
        if step not in told:
            told.add(step)
            console.print(step, markup=False, highlight=False)

    return tell
