"""Secrets go to the deployment's own sockets, and nobody else's answer is believed."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compiler.deploy.deployment import Deployment, Manager
from compiler.deploy.finding import Verdict
from compiler.deploy.probe.http_client import NO_ANSWER, Access, posted
from compiler.deploy.probe.owners import ownership
from compiler.deploy.probe.services import redis_keys
from compiler.deploy.probe.sockets import NotOurs, listening_at
from compiler.deploy.status.status import status
from compiler.deploy.verify.verify import verify
from compiler.errors import ProbeError
from compiler.plan import Plan
from compiler.process import Process
from tests.strangers import ACCOUNT, needs_root, stranger
from tests.support import AGG, ROOT, free_port, plan_of

from .conftest import Bundle

LISTENER = Path(__file__).with_name("listener.py")
SECRET = "s3cret-of-theirs"
BODY = json.dumps({"model": "m", "prompt": "Hello", "max_tokens": 1})


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    return file


@needs_root
@pytest.mark.parametrize("protocol", ["http", "redis"])
@pytest.mark.parametrize("answer", ["200", "401", "pong", "noauth", "silent"])
def test_whoever_takes_the_port_meanwhile_is_told_nothing(
    bundle: Bundle, key: Path, protocol: str, answer: str
) -> None:
    port = bundle.add(
        "worker",
        "--ready-after=60",
        "--lines=1",
        ready_body=BODY,
        ready_key_file=str(key),
        ready_protocol=protocol,
    )
    bundle.write()
    launch = bundle.start()
    launch.until("worker started")
    with stranger(port, answer) as who:
        assert launch.end() == 5
        assert launch.stderr.startswith(
            f"dync: error: worker cannot become ready: port {port} is held by pid {who.pid} ("
        )
        assert f") of {ACCOUNT}; the end of logs/worker.log:\n    line 0\n" in launch.stderr
        assert who.heard == ""
    assert " ready after " not in launch.stdout
    assert " serves at " not in launch.stdout
    assert bundle.left() == []


@needs_root
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_whoever_had_the_port_before_is_named_and_nothing_starts(bundle: Bundle, host: str) -> None:
    port = bundle.add("worker")
    bundle.write()
    with stranger(port, "200", host) as who:
        status, launch = bundle.run()
        assert who.heard == ""
    assert (status, launch.stdout) == (3, "")
    assert f"port {port} on 127.0.0.1 is taken by pid {who.pid} (" in launch.stderr
    assert f") of {ACCOUNT}, and worker wants it" in launch.stderr


@needs_root
def test_the_key_goes_to_the_process_alone_although_another_address_has_the_port(
    bundle: Bundle, key: Path
) -> None:
    asked = {"ready_body": BODY, "ready_key_file": str(key)}
    port = bundle.add("worker", f"--key={SECRET}", **asked)
    bundle.write()
    with stranger(port, "401", "127.0.0.2") as who:
        launch = bundle.start()
        launch.until("disagg serves at")
        assert launch.stop() == 0
        assert who.heard == ""


@pytest.mark.parametrize(
    "kind",
    [
        *("127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"),
        *("each its own", "left its session", "workers hold it", "both"),
    ],
)
def test_own_sockets_are_known_however_they_are_held(bundle: Bundle, kind: str) -> None:
    port = bundle.add("worker", ready_timeout_s=30)
    argv = [sys.executable, "-I", "-S", str(LISTENER), kind, str(port), bundle.marker]
    bundle.script("worker", argv=argv)
    bundle.write()
    launch = bundle.start()
    launch.until("disagg serves at")
    assert launch.stop() == 0
    assert bundle.left() == []
    assert launch.stderr == ""


def test_an_address_of_ipv6(bundle: Bundle) -> None:
    port = bundle.add("worker", listens="'[::1]:1'")
    bundle.processes[0].ready_host = "::1"
    bundle.script("worker", argv=[sys.executable, "-I", "-S", str(LISTENER), "::1", str(port)])
    bundle.write()
    launch = bundle.start()
    launch.until("disagg serves at")
    assert launch.stop() == 0


@needs_root
def test_a_tiers_password_waits_for_the_deployments_own_server(key: Path) -> None:
    port = free_port()
    code = ". lib/dync.sh; dync_process=lmcache; dync_server_of_ours 127.0.0.1 $1 '' $2 5 ''"
    words = ["bash", "-c", code, "-", str(port), str(key)]
    for answer in ("pong", "noauth"):
        with stranger(port, answer) as who:
            done = subprocess.run(
                words, cwd=ROOT / "templates", capture_output=True, text=True, check=False
            )
            assert who.heard == ""
        assert done.returncode == 2
        assert f"port {port} on 127.0.0.1 is held by pid {who.pid} (" in done.stderr


# ---- dync verify, dync status --------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, key: Path) -> Deployment:
    ports = (f"frontend.port={free_port()}", f"deploy.first_port={free_port()}")
    plan = plan_of(AGG, *ports, f"frontend.api_key_file={key}")
    return Deployment(named="x", plan=plan, folder=tmp_path, manager=Manager.NONE)


def entry(plan: Plan) -> Process:
    return plan.entry


@needs_root
@pytest.mark.parametrize("answer", ["200", "401"])
def test_verify_and_status_tell_a_stranger_nothing(served: Deployment, answer: str) -> None:
    process = entry(served.plan)
    with stranger(process.ready.port, answer) as who:
        proof, seen = verify(served, {}), status(served, {})
        heard = who.heard
    assert SECRET not in heard
    assert "POST" not in heard
    words = f"port {process.ready.port} is held by pid {who.pid} ("
    [found] = [it for it in proof.findings if it.check == "ports" and it.subject == process.name]
    assert found.verdict is Verdict.FAIL
    assert found.message.startswith(words)
    [shown] = [it for it in seen.processes if it.name == process.name]
    assert shown.state.startswith(words)
    assert not shown.is_ready
    assert not seen.is_ready


@needs_root
def test_a_key_is_posted_to_own_sockets_alone(served: Deployment) -> None:
    process, own = entry(served.plan), ownership(served)
    url = f"http://127.0.0.1:{process.ready.port}/v1/completions"
    access = Access(key=SECRET, own=own)
    with (
        stranger(process.ready.port, "200"),
        pytest.raises(NO_ANSWER, match="is held by pid"),
        posted(url, {}, access, 5),
    ):
        pytest.fail("it was posted")
    elsewhere = free_port()
    with (
        stranger(elsewhere, "200"),
        pytest.raises(NO_ANSWER, match="no address of the deployment"),
        posted(f"http://127.0.0.1:{elsewhere}/", {}, access, 5),
    ):
        pytest.fail("it was posted")


@needs_root
def test_a_password_is_told_to_own_servers_and_to_those_that_the_user_named(
    served: Deployment,
) -> None:
    process, own = entry(served.plan), ownership(served)
    with stranger(process.ready.port, "pong") as who:
        with pytest.raises(ProbeError, match="is held by pid"):
            redis_keys("127.0.0.1", process.ready.port, SECRET, "", own)
        assert who.heard == ""
    port = free_port()
    with stranger(port, "pong") as theirs:
        with pytest.raises((ProbeError, ValueError)):  # it counts no keys
            redis_keys("127.0.0.1", port, SECRET, "", own)
        assert SECRET in theirs.heard


def test_what_cannot_be_seen_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("compiler.deploy.probe.sockets._TABLES", (tmp_path / "none", tmp_path))
    with pytest.raises(NotOurs, match="nobody can tell"):
        listening_at("127.0.0.1", 80)


def own_client(monkeypatch: pytest.MonkeyPatch, inner: Callable[..., object]) -> Any:
    """Return the module of an own store's client, with this in the place of LMCache's."""
    lmcache = SimpleNamespace(LMCacheRedisClient=inner)
    monkeypatch.setitem(sys.modules, "lmcache", SimpleNamespace(lmcache_redis=lmcache))
    monkeypatch.setitem(sys.modules, "lmcache.lmcache_redis", lmcache)
    monkeypatch.setenv("LMCACHE_RESP_PASSWORD", SECRET)
    spec = importlib.util.spec_from_file_location("own", ROOT / "templates/lib/dync_redis.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.Client, "_keep_connected", lambda _self: None)
    return module


@needs_root
def test_the_client_of_an_own_store_waits_for_its_own_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a store restarts under systemd, its port is anybody's."""
    made: list[object] = []
    module = own_client(monkeypatch, lambda *words: made.append(words))
    port = free_port()
    with stranger(port, "pong") as who:
        module.Client("127.0.0.1", port, is_own=True)
        assert who.heard == ""
    assert made == []
    with socket.create_server(("127.0.0.1", port)):
        assert module.listens_as(0, port)
    assert not module.listens_as(0, port)


@needs_root
@pytest.mark.parametrize("is_again", [False, True])
def test_the_client_looks_after_the_connect_too(
    monkeypatch: pytest.MonkeyPatch, is_again: bool
) -> None:
    """The own store went, and a stranger came, between the look and the connection."""
    module = own_client(monkeypatch, lambda *_words: pytest.fail("it is told the password"))
    port = free_port()
    connect = socket.create_connection
    with ExitStack() as stack:
        own = stack.enter_context(socket.create_server(("127.0.0.1", port)))
        strangers: list[Any] = []

        def late(*given: Any) -> socket.socket:
            own.close()
            if not strangers:
                strangers.append(stack.enter_context(stranger(port, "pong")))
            return connect(*given)

        client = module.Client("127.0.0.1", free_port(), is_own=True)
        client._address = ("127.0.0.1", port)
        monkeypatch.setattr(module.socket, "create_connection", late)
        client._connect()
        if is_again:
            client._connect()
        [who] = strangers
        assert who.heard == ""
        assert client._inner is None
        client.close()


@needs_root
def test_a_client_that_was_made_of_a_store_that_went_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[bool] = []
    port = free_port()
    with ExitStack() as stack:
        own = stack.enter_context(socket.create_server(("127.0.0.1", port)))

        def inner(*_words: object) -> object:
            own.close()
            stack.enter_context(stranger(port, "pong"))
            return SimpleNamespace(close=lambda: closed.append(True))

        module = own_client(monkeypatch, inner)
        monkeypatch.setattr(module.Client, "_answers", lambda _self, _seen: True)
        client = module.Client("127.0.0.1", port, is_own=True)
        assert closed == [True]
        assert client._inner is None
        client.close()
