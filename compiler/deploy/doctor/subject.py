"""What `dync doctor` looks at: a plan, the stack it names, and where its bundle lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compiler.plan import Plan
from compiler.process import Kind
from compiler.stacks.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A plan on this host; folder is the bundle's, or where it would be built."""

    plan: Plan
    stack: Stack
    folder: Path

    @property
    def prefix(self) -> Path:
        """Return where stacks live (deploy.prefix): PREFIX/stacks/STACK/bin/python starts them."""
        workers = (item for item in self.plan.processes if item.kind is Kind.WORKER)
        return Path(next(workers).argv[0]).parents[3]
