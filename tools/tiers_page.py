"""Write the table of docs/storage-tiers.md: every tier in every mode, from the stacks' data.

python tools/tiers_page.py            # rewrites the table in place
python tools/tiers_page.py --print    # prints the whole page
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.shipped_files import tiers_text  # noqa: E402 -- the checkout, wherever this is run from
from compiler.stacks.tier_specs import TierSpec, parse_tiers  # noqa: E402

PAGE = ROOT / "docs" / "storage-tiers.md"
_BLOCK = re.compile(
    r"(<!-- made by \S+ from schemas/tiers/(\S+)\.yaml -->\n).*?(<!-- end -->)", re.S
)
_HEAD = ("Tier", "Mode", "Needs", "Survives a restart", "Shared", "Bounded by", "Verified")


def page() -> str:
    """Return the page with its table made again."""
    text = PAGE.read_text("utf-8")
    return _BLOCK.sub(lambda block: f"{block[1]}\n{table(block[2])}\n{block[3]}", text)


def table(name: str) -> str:
    """Return the table of one LMCache release."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *rows_of(name)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def rows_of(name: str) -> Iterator[tuple[str, ...]]:
    """Return a row for each kind and mode."""
    for kind, item in parse_tiers(tiers_text(name)).items():
        for mode, form in item.modes.items():
            what = f"`{kind}`: {item.summary}" if mode == next(iter(item.modes)) else f"`{kind}`"
            yield (what, f"`{mode}`", *_columns(form))


def _columns(form: TierSpec) -> tuple[str, ...]:
    if form.refused:
        return ("-", "-", "-", "-", f"refused: {form.refused}")
    return (
        form.needs,
        "yes" if form.persistent else "no",
        "yes" if form.shared else "no",
        form.bounded,
        f"{form.verified}: {form.proof}",
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page(), "utf-8")
