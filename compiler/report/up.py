"""Draw how far a launch is, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from compiler.deploy.launch.progress import ProcessProgress, Progress, Stage
from compiler.process import ProcessName

_STYLES = {
    Stage.WAITING: "dim",
    Stage.STARTING: "yellow",
    Stage.READY: "green",
    Stage.ENDED: "bold red",
    Stage.STOPPED: "dim",
    Stage.LEFT_OUT: "dim",
}


def launch_view(progress: Progress, last_lines: Mapping[ProcessName, str], now_s: float) -> Group:
    """Return a headline and a line for each process: state, time, the last line of its log."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), expand=True)
    table.add_column("process", no_wrap=True)
    table.add_column("role", no_wrap=True)
    table.add_column("state", no_wrap=True, min_width=max(len(stage.value) for stage in Stage))
    table.add_column("after", justify="right", no_wrap=True, min_width=7)
    table.add_column("last log line", no_wrap=True, overflow="ellipsis", ratio=1)
    for process in progress.processes.values():
        style = _STYLES[process.stage]
        table.add_row(
            Text(process.name),
            Text(process.kind, style="dim"),
            Text(process.stage.value, style=style),
            Text(_after(process, now_s)),
            Text(last_lines.get(process.name, ""), style="dim"),
        )
    return Group(_headline(progress), table)


def _headline(progress: Progress) -> Text:
    line = Text.assemble((progress.name, "bold"))
    if progress.is_over:
        return line.append(" has stopped")
    if progress.is_refuted:
        return line.append(" answers, but is not proved: it is being stopped")
    if progress.is_stopping:
        return line.append(" is stopping; Ctrl-C once more kills what is left")
    if progress.is_proving:
        return line.append(f" answers after {progress.serves_after}, and is being proved")
    if progress.serves_after:
        line.append(" serves at ").append(progress.url, style="green")
        proof = f", {progress.proof}" if progress.proof else ""
        return line.append(f" after {progress.serves_after}{proof}; Ctrl-C stops it")
    ready = sum(process.stage is Stage.READY for process in progress.processes.values())
    wanted = sum(process.stage is not Stage.LEFT_OUT for process in progress.processes.values())
    return line.append(f" is starting: {ready} of {wanted} processes ready")


def _after(process: ProcessProgress, now_s: float) -> str:
    if process.stage is Stage.STARTING:
        return f"{now_s - process.began_s:.0f} s"
    return process.took
