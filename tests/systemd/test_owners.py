"""Units tell the key to the deployment's own sockets, on a real systemd."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.strangers import ACCOUNT, stranger
from tests.systemd.life import Life

KEY = "s3cret-of-life"
PORTS = {"aggregated-1": 23101, "router": 23105}  # behind a proxy, which has frontend.port
pytestmark = pytest.mark.engine  # no engines, but a minute


@pytest.fixture(scope="module")
def keyed(installed: Life) -> Iterator[Life]:
    """Return the deployment with a key, running."""
    file = installed.machine.at("/etc/life key")
    file.write_text(KEY + "\n")
    file.chmod(0o600)
    plan = installed.build('frontend.api_key_file="/etc/life key"')
    assert {item.name: item.ready.port for item in plan.processes}.items() >= PORTS.items()
    installed.install()
    yield installed
    installed.machine.try_run("systemctl", "stop", "dync-life.target")


def journal(life: Life, unit: str) -> str:
    words = ("journalctl", "--no-pager", "--output=cat", "--unit", unit)
    return life.machine.run(*words)


def test_a_process_with_a_key_is_ready_by_the_account_of_its_unit(keyed: Life) -> None:
    for name in ("aggregated-0", "aggregated-1", "router", "serving"):
        text = keyed.machine.run("systemctl", "cat", f"dync-life-{name}.service")
        assert not any(line.startswith("ExecStartPost=+") for line in text.splitlines())
        assert KEY not in text
    assert keyed.show("-aggregated-0.service", "ActiveState") == "active"
    assert keyed.dync("status", "life").returncode == 0


@pytest.mark.parametrize("answer", ["200", "401"])
def test_who_takes_a_port_while_a_process_starts_is_told_nothing(keyed: Life, answer: str) -> None:
    unit = "dync-life-aggregated-1.service"
    slow = Path(f"/run/systemd/system/{unit}.d/slow.conf")
    keyed.machine.at(str(slow)).write_text("[Service]\nEnvironment=STAND_IN_STARTS_IN=600\n")
    keyed.machine.run("systemctl", "stop", unit)
    keyed.machine.run("systemctl", "daemon-reload")
    before = len(journal(keyed, unit))
    try:
        with stranger(PORTS["aggregated-1"], answer) as who:
            done = keyed.machine.try_run("systemctl", "start", unit)
            status = keyed.dync("status", "life").stdout
            said = journal(keyed, unit)[before:]
            assert KEY not in who.heard
            assert "POST" not in who.heard
    finally:
        keyed.machine.at(str(slow)).unlink()
        keyed.machine.run("systemctl", "daemon-reload")
        keyed.machine.run("systemctl", "reset-failed", unit)
        keyed.machine.run("systemctl", "restart", unit)
    assert done.returncode != 0
    port = PORTS["aggregated-1"]
    held = f"port {port} on 127.0.0.1 is held by a process of {ACCOUNT}, and not by this deployment"
    assert held in said
    assert f"is held by a process of {ACCOUNT}" in " ".join(status.split())


@pytest.mark.parametrize("answer", ["200", "401"])
def test_who_stands_in_for_the_entry_is_not_said_to_serve(keyed: Life, answer: str) -> None:
    # Without the proxy, which asks for the health of whatever is behind it.
    before, serving = ("dync-life-proxy.service", "dync-life-router.service"), "-serving.service"
    unit = f"dync-life{serving}"
    keyed.machine.run("systemctl", "stop", unit, *before)
    keyed.machine.run("systemctl", "mask", "--runtime", *before)
    try:
        with stranger(PORTS["router"], answer) as who:
            done = keyed.machine.try_run("systemctl", "start", unit)
            assert who.heard == ""
    finally:
        keyed.machine.run("systemctl", "unmask", "--runtime", *before)
        keyed.machine.run("systemctl", "start", *reversed(before), unit)
    assert done.returncode != 0
    held = f"port {PORTS['router']} on 127.0.0.1 is held by a process of {ACCOUNT}"
    assert held in journal(keyed, unit)
    assert keyed.show(serving, "Result") == "success"
    give_up = time.monotonic() + 30
    while keyed.dync("status", "life").returncode:
        assert time.monotonic() < give_up
        time.sleep(0.2)
