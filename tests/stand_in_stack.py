"""An environment that says of itself what a stack's says: metadata, and modules without a body."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement

from compiler.deploy.accounts import said_by
from compiler.stacks.stack import Stack


def pinned(stack: Stack, accelerator: str) -> dict[str, str]:
    """Return the versions that a stack's packages are pinned to."""
    pins = (Requirement(item) for item in stack.platforms[accelerator].requirements)
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}


def fill_site(site: Path, versions: Mapping[str, str], modules: Iterable[str]) -> None:
    """Write the metadata of packages, and modules that can be imported."""
    for name, version in versions.items():
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for module in modules:
        (site / f"{module}.py").touch()


def write_program(program: Path, site: Path) -> None:
    """Write a program that runs this Python with a site of its own.

    Or the system's, where other accounts are kept from this one.
    """
    is_open = said_by("nobody", sys.executable, "-c", "pass") is not None or os.geteuid() != 0
    python = sys.executable if is_open else "/usr/bin/python3"
    program.parent.mkdir(parents=True)
    program.write_text(
        '#!/bin/sh\nif [ "$*" = "-c pass" ]; then exit 0; fi\n'
        f'export PYTHONPATH={site}\nexec {python} -S "$@"\n'
    )
    program.chmod(0o755)
