"""Run dync although a rule, or a stack's case, refuses something: to see that it is true.

python -m benchmarks.gpu.refused ID build PROFILE …
"""

from __future__ import annotations

import sys
from dataclasses import replace

from compiler import library
from compiler.cli.main import dync
from compiler.rules import tables
from compiler.stacks.stack import Stack


def main() -> None:
    """Leave one rule out, or one case out of every stack, and be dync."""
    case, *argv = sys.argv[1:]
    for name in ("TOPOLOGY_RULES", "STACK_RULES", "MODEL_RULES"):
        kept = tuple(rule for rule in getattr(tables, name) if rule.RULE.id != case)
        setattr(tables, name, kept)
    shipped = library.load_stack

    def without(name: str) -> Stack:
        stack = shipped(name)
        return replace(stack, cases=tuple(item for item in stack.cases if item.id != case))

    library.load_stack = without  # type: ignore[assignment]  # the same but for its cache
    dync.main(argv, prog_name="dync")


if __name__ == "__main__":
    main()
