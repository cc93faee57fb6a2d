"""lib/proxy.sh: any key that a client can send is asked for exactly; what cannot work is said."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.library import templates
from compiler.process import API_KEY
from tests.proxy.conftest import (
    Front,
    entry,
    front,
    make_certificate,
    needs_nginx,
    start,
    stop,
    until_it_listens,
)

PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
KEYS = st.text(PRINTABLE, min_size=1, max_size=60).filter(lambda key: key == key.strip())
LONGEST = 512
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A bundle whose own proxy has ended: its server is there still, its port is free."""
    with front(tmp_path_factory.mktemp("asked")) as found:
        stop(found.process)
        yield found


def serve(found: Front, key: str) -> subprocess.Popen[bytes]:
    words = ("/bin/bash", "lib/proxy.sh", "proxy/nginx.conf")
    env = {"PATH": os.environ["PATH"], API_KEY: key}
    process = start(found.bundle, found.log, *words, env=env)
    until_it_listens(process, found.port, found.log)
    return process


def others(key: str) -> set[str]:
    """Return what is almost the key."""
    almost = {key.lower(), key.upper(), key.swapcase(), key + key[-1], key[:-1], key[1:], f"{key}."}
    almost |= {key.replace(".", "x"), key.replace("*", ""), key.replace("\\", ""), f".{key}"}
    return {other for other in almost if other.strip() != key}


@needs_nginx
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=KEYS)
def test_exactly_this_key_is_asked_for(asked: Front, key: str) -> None:
    process = serve(asked, key)
    try:
        assert asked.status("/v1/models", f"Authorization: Bearer {key}") == 200
        for other in others(key):
            assert asked.status("/v1/models", f"Authorization: Bearer {other}") == 401, other
    finally:
        stop(process)


@needs_nginx
def test_the_longest_key_of_what_patterns_are_made_of_is_asked_for(asked: Front) -> None:
    key = ("\\.*+?()[]{}|^$\"'#;~` " * 40)[: LONGEST - 1] + "."
    process = serve(asked, key)
    try:
        assert asked.status("/v1/models", f"Authorization: Bearer {key}") == 200
        assert asked.status("/v1/models", f"Authorization: Bearer {key[:-1]}x") == 401
    finally:
        stop(process)


def check(key: str | bytes, port: int = 8000, **more: str) -> subprocess.CompletedProcess[str]:
    script = templates()["lib/proxy.sh"]
    return subprocess.run(
        [b"/bin/bash", b"-c", script.encode(), b"proxy.sh", b"--check", str(port).encode()],
        env={b"PATH": os.environb[b"PATH"], API_KEY.encode(): os.fsencode(key)}
        | {name.encode(): value.encode() for name, value in more.items()},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_nginx
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("a" * (LONGEST + 1), "the API key has 513 bytes; at most 512 can be asked for"),
        ("two\nlines", "no HTTP header can carry"),
        ("a\tb", "no HTTP header can carry"),
        ("a\x7fb", "no HTTP header can carry"),
        ("schlüssel", "no HTTP header can carry"),
        (b"a\xffb", "no HTTP header can carry"),
        (" Zq9", "begins or ends with a space"),
        ("Zq9 ", "begins or ends with a space"),
    ],
)
def test_a_key_that_cannot_be_asked_for_is_refused(key: str | bytes, said: str) -> None:
    result = check(key)
    assert result.returncode == 2
    assert said in result.stderr
    shown = key if isinstance(key, str) else "a\ufffdb"
    assert shown not in result.stderr


@needs_nginx
def test_what_can_be_asked_for_passes_the_check() -> None:
    assert check("a" * LONGEST).returncode == 0
    assert check("").returncode == 0  # where nobody is asked for one


def test_a_missing_nginx_is_said_with_what_installs_it(tmp_path: Path) -> None:
    script = templates()["lib/proxy.sh"].replace("/usr/local/sbin:/usr/sbin:/sbin", "/nowhere")
    bash = shutil.which("bash")
    assert bash
    result = subprocess.run(
        [bash, "-c", script, "proxy.sh", "--check", "8000"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "nginx is missing: apt install nginx-light, or dnf install nginx" in result.stderr


@needs_nginx
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_low_port_is_refused_to_who_may_not_have_it() -> None:
    script = templates()["lib/proxy.sh"]
    command = [*AS_NOBODY, "/bin/bash", "-c", script, "proxy.sh", "--check"]
    refused = subprocess.run([*command, "443"], capture_output=True, text=True, check=False)
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 443:
        assert refused.returncode == 0
    else:
        assert refused.returncode == 2
        assert re.search(r"may not listen on port 443, below \d+: choose another", refused.stderr)
    assert subprocess.run([*command, "8443"], check=False).returncode == 0
    assert check("", 443).returncode == 0  # root may


@needs_nginx
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_account_without_rights_serves_with_tls() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        certificate, tls_key = make_certificate(folder)
        options = (f"frontend.tls.certificate={certificate}", f"frontend.tls.key={tls_key}")
        with front(folder, *options) as found:
            stop(found.process)
            for path in (found.bundle, *found.bundle.rglob("*"), tls_key, folder / "key"):
                os.chown(path, NOBODY, NOBODY)
            script = str(found.bundle / "bin/proxy.sh")
            process = start(found.bundle, found.log, *AS_NOBODY, "/bin/bash", script)
            try:
                until_it_listens(process, found.port, found.log)
                assert found.status("/invocations") == 401
                assert found.status("/health") == 200
            finally:
                stop(process)


@needs_nginx
def test_a_port_that_is_taken_ends_it(tmp_path: Path) -> None:
    with front(tmp_path) as found:
        stop(found.process)
        with socket.create_server(("127.0.0.1", found.port)):
            result = subprocess.run(
                ["/bin/bash", str(found.bundle / "bin/proxy.sh")],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
    assert result.returncode == 1
    assert "Address already in use" in result.stderr
    assert list((found.bundle / "run" / entry(found.plan).name).glob("secret.*")) == []
