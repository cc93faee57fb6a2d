"""Put a file in place by one rename."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def put_file(path: Path, content: bytes, mode: int) -> None:
    """Write beside a file's place, bring it to the disk, then rename it there.

    What a kill left behind is written again; of a failure nothing is left.
    Errors: OSError.
    """
    fresh = path.with_name(f".{path.name}.dync-new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
