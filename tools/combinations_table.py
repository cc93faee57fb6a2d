"""Write README's table of what works: every combination on every stack, from the stacks' data.

python tools/combinations_table.py            # rewrites the table in place
python tools/combinations_table.py --print    # prints the whole page
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.library import library  # noqa: E402 -- the checkout, wherever this is run from
from compiler.stacks.combinations import COMBINATIONS, Known, Standing, all_known  # noqa: E402
from compiler.topology import Accelerator  # noqa: E402

README = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- made by tools/combinations_table.py -->\n).*?(<!-- end -->)", re.S)
_ORDER = ("vllm", "dynamo")


def page() -> str:
    """Return README with its table made again."""
    text = README.read_text("utf-8")
    return _BLOCK.sub(lambda block: f"{block[1]}\n{table()}\n{block[2]}", text)


def table() -> str:
    """Return the table."""
    head = (
        "Stack",
        "Accelerator",
        *(f"{item.topology.value}, {item.mode.value}" for item in COMBINATIONS),
    )
    rows = [head, tuple("---" for _ in head), *_rows()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows() -> list[tuple[str, ...]]:
    """Return a row for each form of each stack, the newest first."""
    names = sorted(library().stack_names, reverse=True)
    names.sort(key=lambda name: _ORDER.index(name.partition("-")[0]))
    return [
        (
            f"`{name}`",
            accelerator,
            *map(_cell, all_known(library().load_stack(name), Accelerator(accelerator))),
        )
        for name in names
        for accelerator in library().load_stack(name).platforms
    ]


def _cell(known: Known) -> str:
    if known.run is not None:
        return f"run on {known.run.hardware}, {known.run.at}"
    if known.case is not None:
        return f"refused: `{known.case.id}`"
    return Standing.ON_PAPER.value


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(page(), end="")
    else:
        README.write_text(page(), "utf-8")
