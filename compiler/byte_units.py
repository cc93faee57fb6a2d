"""Write amounts of memory for people."""

from __future__ import annotations

KIB, MIB, GIB = 2**10, 2**20, 2**30


def byte_text(amount: int) -> str:
    """Return bytes in the largest unit of which there is one, as the engines count: powers of 2."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if amount >= unit:
            return f"{amount / unit:.4g} {name}"
    return f"{amount} B"
