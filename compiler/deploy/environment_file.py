"""Keep the few variables that pass from a caller's shell to the processes, in a private file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from compiler.deploy.installation import Host, Installation
from compiler.emit.quoting import environment_line
from compiler.errors import HostError
from compiler.write.atomic import put_file
from compiler.write.safe_read import read_file

FILE = "environment"


def refuse_empty(values: Mapping[str, str]) -> None:
    """Refuse a variable that the caller's shell does not have.

    Errors: HostError.
    """
    for variable, value in values.items():
        if not value:
            raise HostError(f"{variable} is not set in your shell: export it, or leave --pass out")


@contextmanager
def written_environment(host: Host, name: str, values: Mapping[str, str]) -> Iterator[None]:
    """Write variables into a deployment's environment file, beside what is there already.

    What fails in the meantime leaves the file as it was.
    Errors: HostError where the file cannot be read or written.
    """
    if not values:
        yield
        return
    path = Installation(host=host, name=name).home / FILE
    before = _there(path)
    lines = (before or b"").decode("utf-8", "surrogateescape").splitlines()
    kept = [line for line in lines if line.partition("=")[0].strip() not in values]
    kept += [environment_line(variable, value) for variable, value in values.items()]
    _put(path, ("\n".join(kept) + "\n").encode("utf-8", "surrogateescape"))
    try:
        yield
    except BaseException:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            _put(path, before)
        raise


def _there(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}; move it away") from error


def _put(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_file(path, content, 0o600)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error


def read_environment(host: Host, name: str) -> dict[str, str]:
    """Read what is kept for a deployment; nothing where there is no file, or none to be read."""
    try:
        lines = read_file(Installation(host=host, name=name).home / FILE).decode().splitlines()
        words = [shlex.split(line, comments=True) for line in lines]
    except (OSError, ValueError):
        return {}
    pairs = (word.partition("=") for line in words for word in line)
    return {name: value for name, equals, value in pairs if equals}
