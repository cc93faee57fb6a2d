"""The `dync` command."""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compiler.errors import DataError

_NEW_BEFORE_COLLECTION = 100_000
"""Objects. What a command makes of thousands of workers is kept until it ends and has no cycles, so
that looking through it again and again finds nothing."""


def main() -> None:
    """Run the command line; an unexpected failure is one line, never a traceback."""
    from compiler.cli.main import dync  # noqa: PLC0415 -- so that an interrupt while importing is quiet
    from compiler.errors import DataError  # noqa: PLC0415 -- likewise

    gc.set_threshold(_NEW_BEFORE_COLLECTION)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack what a name or a log has
            stream.reconfigure(errors="backslashreplace")
    try:
        dync.main(prog_name="dync", standalone_mode=True)
    except DataError as error:
        _end_of_data(error)
    except OSError as error:
        _end(f"{error.filename or 'dync'}: {error.strerror or error}")
    except Exception as error:
        if os.environ.get("DYNC_TRACEBACK"):
            raise
        _end(
            f"internal error: {error!r}. This is a bug of dync: please report it with the profile; "
            "DYNC_TRACEBACK=1 shows where"
        )


def _end_of_data(error: DataError) -> None:
    """Print what is wrong in a data file as `dync check` prints what is wrong in a profile."""
    from compiler.report.diagnostics import in_order, written  # noqa: PLC0415 -- rarely needed
    from compiler.report.visible import visible  # noqa: PLC0415 -- likewise

    sys.stderr.write(visible(written(in_order(error.diagnostics), error.sources, "text")))
    sys.exit(1)


def _end(message: str) -> None:
    from compiler.report.visible import visible  # noqa: PLC0415 -- rarely needed

    print(f"dync: error: {visible(message)}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
