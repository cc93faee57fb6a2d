"""Bundles that another account can write: nobody starts them, nor tells them what is his own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compiler.cli.main import dync
from compiler.deploy.deployment import Manager
from compiler.deploy.doctor import ownership
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Verdict
from compiler.deploy.installation import user_host
from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.plan import Plan
from compiler.write.bundle import write
from tests.support import AGG, ROOT, free_port, plan_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
THIRD = 12345
RAN = "launch.sh ran"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle that every account may look into; starting it leaves a mark."""
    (tmp_path / "key").write_text("what is root's\n")
    (tmp_path / "key").chmod(0o600)
    made(tmp_path / "place/bundle", f"frontend.api_key_file={tmp_path}/key")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path / "place/bundle"


def made(folder: Path, *overrides: str) -> Plan:
    prefix = folder.parents[1] / "prefix"
    program = prefix / "stacks/vllm-0.32/bin/python"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    plan = plan_of(AGG, f"deploy.prefix={prefix}", *overrides)
    write(emit(plan, templates()), folder, overwrite=True)
    (folder / "launch.sh").write_text(f"echo {RAN}\n")  # what is asked here is who may start it
    return plan


def give(path: Path, owner: int = THIRD) -> None:
    for item in (path, *path.rglob("*")):
        os.chown(item, owner, owner, follow_symlinks=False)


def run(*words: str) -> Result:
    return CliRunner().invoke(dync, words)


def launched(bundle: Path) -> str:
    """Run `dync up` as root, in a process of its own: it may become launch.sh."""
    command = [sys.executable, "-m", "compiler", "up", str(bundle), "--plain", "--no-verify"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_root_launches_what_is_its_own(bundle: Path) -> None:
    assert RAN in launched(bundle)


@pytest.mark.parametrize(
    "place",
    [
        *("place/bundle", "place/bundle/lib/dync.sh", "place/bundle/logs", "place/bundle/run"),
        *("place", "prefix/stacks/vllm-0.32/bin", "prefix"),
    ],
)
@pytest.mark.parametrize("who", ["owner", "mode"])
def test_root_launches_nothing_that_others_can_change(
    bundle: Path, place: str, who: str, tmp_path: Path
) -> None:
    """Neither the bundle, nor what is on the way to it, nor the stack."""
    path = tmp_path / place
    if path.name in ("logs", "run"):
        path.mkdir()
    if who == "owner":
        os.chown(path, THIRD, THIRD)
    else:
        path.chmod(path.stat().st_mode | 0o020)
    said = launched(bundle)
    assert RAN not in said
    assert f"others than root can change {path} (owner " in said
    looked = run("doctor", str(bundle), "--format", "json").output
    assert f"others than root can change {path} (owner " in looked, "doctor says the same"


def test_a_bundle_that_is_on_the_way_through_tmp_is_launched(bundle: Path, tmp_path: Path) -> None:
    """Sticky: nobody replaces there what is root's."""
    (tmp_path / "place").chmod(0o1777)
    assert RAN in launched(bundle)


@contextmanager
def listening(port: int) -> Iterator[list[bytes]]:
    """Note what is said to a port; the socket is this account's, as those of a deployment are."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def answer() -> None:
            while not done.is_set():
                try:
                    link, _ = server.accept()
                except TimeoutError:
                    continue
                with link:
                    link.settimeout(2)
                    heard.append(link.recv(65536))
                    link.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield heard
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("command", ["verify", "status"])
def test_root_tells_nothing_to_whom_anothers_bundle_names(
    bundle: Path, command: str, tmp_path: Path
) -> None:
    """Its plan says which file is read, and to which port it is sent."""
    first = f"deploy.first_port={free_port()}"
    plan = made(
        bundle, f"frontend.api_key_file={tmp_path}/key", f"frontend.port={free_port()}", first
    )
    with listening(plan.api.ready.port) as heard:
        assert "is not believed" not in run(command, str(bundle)).output
        heard.clear()
        give(bundle)
        said = run(command, str(bundle))
    assert said.exit_code == 1
    assert f"{bundle} is not believed" in said.output
    assert f"run this as {THIRD}" in said.output
    assert heard == []


def test_a_deployment_without_secrets_may_be_looked_at(bundle: Path) -> None:
    made(bundle)
    give(bundle)
    assert "is not believed" not in run("status", str(bundle)).output
    assert "is not believed" in run("verify", str(bundle)).output, "it writes into the bundle"


@pytest.mark.parametrize("words", [("doctor",), ("doctor", "--install"), ("install", "--no-start")])
def test_no_password_is_told_before_the_bundle_is_believed(
    bundle: Path, words: tuple[str, ...], tmp_path: Path
) -> None:
    port = free_port()
    tier = f"{{redis: {{url: 'redis://127.0.0.1:{port}', password_file: {tmp_path}/key}}}}"
    made(bundle, f"lmcache.tiers=[{tier}]")
    with listening(port) as heard:
        run(*words, str(bundle))
        assert b"what is root's" in b"".join(heard) or words[0] == "install"
        heard.clear()
        give(bundle)
        run(*words, str(bundle))
        assert heard == []


# ---- of another account


def as_account(owner: int, *words: str, home: Path) -> str:
    """Run dync as an account that is not root: its Python lies where only root reads, and is here.

    What it imports must have been imported by an earlier run.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
        done = CliRunner().invoke(dync, words, env={"HOME": str(home), "XDG_CONFIG_HOME": None})
        os.write(writing, done.output.encode() or repr(done.exception).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:
        text = said.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.parametrize("place", ["place/bundle/lib", "prefix/stacks", "prefix"])
@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_a_users_units_start_nothing_that_a_third_account_can_change(
    bundle: Path, place: str, mode: int, tmp_path: Path
) -> None:
    home, user = tmp_path / "home", 65534
    home.mkdir()
    os.chown(home, user, user)
    words = ("install", str(bundle), "--user", "--no-start", "--overwrite")
    give(tmp_path / "place", user)
    run(*words[:2], "--root", str(home), "--overwrite")
    before = as_account(user, *words, home=home)
    assert "can change" not in before, before
    shutil.rmtree(home / ".config", ignore_errors=True)
    (tmp_path / place).chmod(mode)
    if mode == 0o755:
        os.chown(tmp_path / place, THIRD, THIRD)
    said = as_account(user, *words, home=home)
    assert f"others than root and you can change {tmp_path / place} (owner " in said
    assert "which your units start" in said
    assert not (home / ".config").exists()


@pytest.mark.parametrize(("members", "is_found"), [({THIRD}, False), ({THIRD, 1}, True)])
def test_a_group_of_ones_own_is_no_third_account(
    bundle: Path, members: set[int], is_found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As umask 002 makes files where each account has such a group."""
    give(bundle)
    (bundle / "lib").chmod(0o775)
    monkeypatch.setattr(os, "geteuid", lambda: THIRD)
    monkeypatch.setattr(ownership, "_members", lambda _: frozenset(members))
    plan = plan_of(AGG)
    host = user_host({"HOME": str(bundle)})
    subject = Subject(plan=plan, stack=None, folder=bundle, host=host, manager=Manager.SYSTEMD)
    found = [item for item in ownership.check(subject) if item.verdict is Verdict.FAIL]
    assert any(item.subject == str(bundle / "lib") for item in found) == is_found


def test_members_of_a_group_are_those_whose_own_it_is_too() -> None:
    assert ownership._members(0) >= {0}
    assert ownership._members(54321) == frozenset()
