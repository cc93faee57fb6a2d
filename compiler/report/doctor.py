"""Print the result of `dync doctor`, for people or as JSON."""

from __future__ import annotations

import json
from collections import Counter

from rich.console import Console
from rich.text import Text

from compiler.deploy.doctor.examine import Checkup
from compiler.deploy.finding import Verdict, worst
from compiler.report.findings import finding_json, findings_table, mark


def print_checkup(checkup: Checkup, console: Console) -> None:
    """Print every finding, and whether the deployment can start here."""
    console.print(findings_table(checkup.findings))
    console.print()
    count = Counter(finding.verdict for finding in checkup.findings)
    told = ", ".join(f"{count[item]} {item.value}" for item in Verdict if count[item])
    sentence = "this host is fit for it" if checkup.is_fit else "this host is not ready for it"
    console.print(
        mark(worst(checkup.findings)),
        Text(checkup.name, style="bold"),
        Text(sentence, style="bold"),
        f"({told})",
    )


def checkup_json(checkup: Checkup) -> str:
    """Return a checkup as JSON."""
    found = {
        "name": checkup.name,
        "fit": checkup.is_fit,
        "verdict": worst(checkup.findings).value,
        "findings": [finding_json(finding) for finding in checkup.findings],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
