"""Hand the pure stages what ships with the program."""

from __future__ import annotations

from functools import lru_cache, partial

from compiler import data
from compiler.pipeline import Library
from compiler.stacks.stack import Stack, parse_stack


@lru_cache(maxsize=8)
def load_stack(name: str) -> Stack:
    """Read a shipped stack."""
    return parse_stack(data.stack_text(name), partial(data.catalogue_text, name), data.tiers_text)


def library() -> Library:
    """Give the schema and the stacks."""
    return Library(
        schema=data.profile_schema(),
        stack_names=tuple(data.stack_names()),
        load_stack=load_stack,
    )


def templates() -> dict[str, str]:
    """Read every template of a bundle."""
    from compiler.emit import TEMPLATES  # noqa: PLC0415 -- Jinja2 is not for `dync check`

    return {name: data.template_text(name) for name in TEMPLATES}
