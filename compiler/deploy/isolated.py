"""Run a Python of which another account may know where it is run."""

from __future__ import annotations


def isolated(python: str, *words: str) -> list[str]:
    """Return the command of a Python that takes no module of the folder one stands in.

    Nor of PYTHONPATH, nor those of the account's own: what it runs is the environment's alone.
    Source: CPython's -I, since 3.4; -c and -m put the folder before all else without it.
    """
    return [python, "-I", *words]
