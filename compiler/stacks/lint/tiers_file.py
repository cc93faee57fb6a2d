"""Check what a file of tiers names: placeholders, and the options of its conditions."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic
from compiler.document import Document, Path
from compiler.stacks.lint.references import Shipped, below, check_placeholders, unknown
from compiler.stacks.placeholders import TIER

_FILLED: tuple[Path, ...] = (
    ("adapter",),
    ("config",),
    ("env",),
    ("secrets",),
    ("place",),
    ("folder",),
    ("size_gb",),
    ("keep_gb",),
    ("instead", "*", "config"),
    ("instead", "*", "env"),
)
_CONDITIONS = ("instead", "refuses", "wants")


def check_tiers_file(document: Document, shipped: Shipped) -> Iterator[Diagnostic]:
    """Report each name of a file of tiers that leads nowhere."""
    data = document.root.plain()
    for (_, kind), _ in below(data, ("kinds", "*")):
        options = shipped.tier_options(str(kind))
        for pattern in _FILLED:
            yield from check_placeholders(
                document, data, ("kinds", kind, "*", *pattern), {*options, *TIER}
            )
        for part in _CONDITIONS:
            for path, _ in below(data, ("kinds", kind, "*", part, "*", "when", "*")):
                option = str(path[-1])
                if option not in options:
                    yield unknown(
                        document.key_span(path),
                        f"a tier of kind {kind} has no option {option!r}",
                        "a condition on what no profile can write never holds",
                        name=option,
                        known=options,
                        otherwise=f"write one of: {', '.join(options)}",
                    )
