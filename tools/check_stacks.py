"""Check the files of stacks, tiers and relations, and print what is wrong as `dync check` does.

python tools/check_stacks.py [FILE...]    # default: all of schemas/

Each file's first line names its schema. What a file names is looked up too: placeholders,
catalogues, engine options, facts of conditions, connectors. Ends with 1 where something is wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.library import shipped  # noqa: E402 -- the checkout, wherever this is run from
from compiler.report.diagnostics import in_order, written  # noqa: E402
from compiler.stacks.lint.lint import lint  # noqa: E402

SCHEMAS = ROOT / "schemas"


def files() -> list[Path]:
    """Return every file of stacks, tiers and relations that ships."""
    return [
        *sorted((SCHEMAS / "stacks").glob("*.yaml")),
        *sorted((SCHEMAS / "tiers").glob("*.yaml")),
        SCHEMAS / "engine_relations.yaml",
    ]


def main(names: Sequence[str]) -> int:
    """Check the named files, or all, and print what there is to say."""
    if set(names) & {"-h", "--help"}:
        print(__doc__)
        return 0
    names = names or [os.path.relpath(path) for path in files()]
    try:
        sources = {
            name: Path(name).read_text("utf-8", "surrogateescape").removeprefix("\ufeff")
            for name in names
        }
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    beside = shipped()
    found = [item for name, text in sources.items() for item in lint(text, name, beside)]
    sys.stderr.write(written(in_order(found), sources, "text"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
