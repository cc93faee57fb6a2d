"""What an environment says of itself: which stack it is, how it was made, what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from packaging.utils import canonicalize_name

from compiler.write.safe_read import read_named

RECORD = "dync-stack.json"


class MadeBy(str, Enum):
    """What an environment was made by."""

    LOCK = "lock"
    PINS = "pins"
    OLDER = ""  # a dync that knew no locks
    NOBODY = "nobody"  # there is no record


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRecord:
    """How an environment was made; versions: of its packages, as they were at that time."""

    stack: str = ""
    accelerator: str = ""
    made_by: MadeBy
    whole: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)


def read_record(folder: Path) -> StackRecord:
    """Read what an environment's folder says; a record that cannot be read is none."""
    try:
        data = json.loads(read_named(folder / RECORD).decode("utf-8"))
        return StackRecord(
            stack=str(data["stack"]),
            accelerator=str(data.get("accelerator", "")),
            made_by=MadeBy(data.get("made_by", "")),
            whole=data.get("state") == "whole",
            versions=pinned(map(str, data.get("packages", ()))),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return StackRecord(made_by=MadeBy.NOBODY)


def pinned(lines: Iterable[str]) -> dict[str, str]:
    """Return the versions in lines of `pip freeze`; a line of another form has none."""
    pairs = (line.split("==", 1) for line in lines if "==" in line)
    return {canonicalize_name(name.strip()): version.strip() for name, version in pairs}


def write_record(folder: Path, record: StackRecord) -> None:
    """Write the record of an environment."""
    data = {
        "stack": record.stack,
        "accelerator": record.accelerator,
        "state": "whole" if record.whole else "unfinished",
        "made_by": record.made_by.value,
        "packages": [f"{name}=={version}" for name, version in sorted(record.versions.items())],
    }
    (folder / RECORD).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
