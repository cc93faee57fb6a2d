"""Print findings to a rich console: what `dync verify` and `dync doctor` share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from compiler.deploy.finding import Finding, Verdict
from compiler.report.terminal import Console

STYLES = {
    Verdict.PASS: ("pass", "bold green"),
    Verdict.WARN: ("warn", "bold yellow"),
    Verdict.FAIL: ("FAIL", "bold red"),
    Verdict.SKIP: ("skip", "dim"),
}
_WIDE = 240


def console_for(*, stderr: bool = False) -> Console:
    """Return a console for a command's output; what is no terminal never breaks a line early."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    return console


def mark(verdict: Verdict) -> Text:
    """Return a verdict as a word in its colour."""
    return Text(*STYLES[verdict])


def findings_table(findings: Iterable[Finding]) -> Table:
    """Return findings as a table, each followed by its fix where it has one."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.message)
        if finding.fix and finding.verdict is not Verdict.PASS:
            text.append(f"\nfix: {finding.fix}", style="cyan")
        subject = Text(finding.subject)
        subject.append(f"  {finding.check}", style="dim")
        table.add_row(mark(finding.verdict), subject, text)
    return table


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON's types."""
    return {**asdict(finding), "verdict": finding.verdict.value}


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """Print findings as a table."""
    console.print(findings_table(findings))
