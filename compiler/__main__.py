"""The `dync` command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; an unexpected failure is one line, never a traceback."""
    from compiler.cli.main import dync  # noqa: PLC0415 -- so that an interrupt while importing is quiet

    try:
        dync.main(prog_name="dync", standalone_mode=True)
    except OSError as error:
        _end(f"{error.filename or 'dync'}: {error.strerror or error}")
    except Exception as error:
        if os.environ.get("DYNC_TRACEBACK"):
            raise
        _end(
            f"internal error: {error!r}. This is a bug of dync: please report it with the profile; "
            "DYNC_TRACEBACK=1 shows where"
        )


def _end(message: str) -> None:
    print(f"dync: error: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
