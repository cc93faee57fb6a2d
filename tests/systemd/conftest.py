"""One machine with systemd for the tests of a session, and deployments installed on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.machine import Machine, can_boot


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the machine has too, at the same path, open to every account."""
    folder = tmp_path_factory.mktemp("shared")
    for path in (folder, *folder.parents):
        if path.name.startswith("pytest-") or path.is_relative_to(tmp_path_factory.getbasetemp()):
            path.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def machine(shared: Path) -> Iterator[Machine]:
    if not can_boot():
        reason = "a systemd of its own needs root, unshare and /lib/systemd/systemd"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    made = Machine({shared: str(shared)})
    try:
        made.boot()
        made.run("useradd", "--system", "--no-create-home", "dync")
        yield made
    finally:
        made.discard()
