"""One machine with systemd for the tests of a session, and deployments installed on it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.library import load_stack
from tests.stand_in_stack import fill_site, pinned
from tests.systemd.life import FAST, NAMES, Life
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


@pytest.fixture(scope="module")
def installed(machine: Machine, shared: Path) -> Iterator[Life]:
    """Return a deployment of small servers, to be built and installed on the machine."""
    folder = shared / f"life-{time.monotonic_ns()}"
    program = folder / "prefix/stacks/vllm-0.32/bin/python"
    program.parent.mkdir(parents=True)
    source = Path(__file__).with_name("stand_in.py").read_text("utf-8")
    program.write_text(f"#!{sys.executable} -IS\n{source}")
    program.chmod(0o755)
    stack = load_stack("vllm-0.32")
    fill_site(program.with_name("site"), pinned(stack, "cpu"), stack.platforms["cpu"].imports)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_text("x")
    for name in NAMES:
        drop_in = machine.at(f"/run/systemd/system/dync-life-{name}.service.d/fast.conf")
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(FAST)
    life = Life(machine, folder)
    yield life
    machine.try_run("systemctl", "stop", "dync-life.target")
    life.dync("uninstall", "life", "--purge")
