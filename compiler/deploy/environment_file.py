"""Keep the few variables that pass from a caller's shell to the processes, in a private file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from compiler.deploy.installation import Host, Installation
from compiler.emit.quoting import environment_line
from compiler.errors import HostError
from compiler.write.atomic import put_file

FILE = "environment"


def write_environment(host: Host, name: str, values: Mapping[str, str]) -> Path:
    """Write variables into a deployment's environment file, beside what is there already.

    Errors: HostError for a value that is empty, or where the file cannot be written.
    """
    for variable, value in values.items():
        if not value:
            raise HostError(f"{variable} is not set in your shell: export it, or leave --pass out")
    home = Installation(host=host, name=name).home
    path = home / FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if line.partition("=")[0].strip() not in values]
        kept += [environment_line(variable, value) for variable, value in values.items()]
        put_file(path, ("\n".join(kept) + "\n").encode(), 0o600)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error
    return path


def read_environment(host: Host, name: str) -> dict[str, str]:
    """Read what is kept for a deployment; nothing where there is no file, or none to be read."""
    try:
        lines = (Installation(host=host, name=name).home / FILE).read_text("utf-8").splitlines()
        words = [shlex.split(line, comments=True) for line in lines]
    except (OSError, ValueError):
        return {}
    pairs = (word.partition("=") for line in words for word in line)
    return {name: value for name, equals, value in pairs if equals}
