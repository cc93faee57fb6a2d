"""An environment that says of itself what a stack's says: metadata, and modules without a body."""

from __future__ import annotations

import os
import shutil
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
    """Make a virtual environment of this Python, as `python -m venv --copies` does.

    Or of the system's Python, where other accounts are kept from this one.
    """
    here = os.path.realpath(sys.executable)
    is_open = os.geteuid() != 0 or said_by("nobody", here, "-I", "-c", "pass") is not None
    python = here if is_open else os.path.realpath("/usr/bin/python3")
    release = said_by("", python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    assert release is not None
    program.parent.mkdir(parents=True)
    shutil.copy(python, program)  # no link: a test that writes to it would write to the host's
    home = program.parent.parent
    (home / "pyvenv.cfg").write_text(f"home = {os.path.dirname(python)}\n")
    packages = home / "lib" / f"python{release.strip()}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "site.pth").write_text(f"{site}\n")
