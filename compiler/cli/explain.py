"""`dync explain`: the page of a rule."""

from __future__ import annotations

import click

from compiler.cli.echo import echo
from compiler.library import library


@click.command("explain")
@click.argument("rule", required=False)
def explain_command(rule: str | None) -> None:
    """Explain a rule, with an accepted and a rejected profile.

    Without RULE it lists all rules. A diagnostic ends its first line with its rule.
    """
    from compiler.diagnostic import suggestion
    from compiler.rules.explain import pages

    known = pages(library().stacks())
    if rule is None:
        for name, page in sorted(known.items()):
            echo(f"{name:26} {page.splitlines()[0]}")
        return
    if rule not in known:
        near = suggestion(rule, known)
        hint = f"; did you mean {near}?" if near else "; `dync explain` lists them"
        raise click.UsageError(f"there is no rule {rule!r}{hint}")
    echo(f"{rule}: {known[rule].rstrip()}")
