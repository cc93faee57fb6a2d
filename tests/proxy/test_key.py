"""No request gets past the proxy without the key, however it is written."""

from __future__ import annotations

import pytest

from tests.proxy.conftest import KEY, Front, needs_nginx, status_of

pytestmark = needs_nginx
GOOD = f"Authorization: Bearer {KEY}"
TARGETS = (
    "/",
    "/v1/models",
    "/v1/completions",
    "/invocations",
    "/tokenize",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/ping",
    "//",
    "//health",
    "/health/",
    "/HEALTH",
    "/Health",
    "/health?x=1",
    "/health;x",
    "/health/../v1/models",
    "/health/..%2fv1/models",
    "/health%2f..%2fv1/models",
    "/%68ealth",
    "/%2e/health",
    "/./health",
    "/v1/../health",
    "/health%00",
    "/health%20",
    "/health#x",
    "/dync-health",
    "/invocations/health",
    "http://front.example/v1/models",
    "http://front.example/health/../invocations",
    "https://elsewhere.example/invocations",
)
METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PROPFIND", "BREW")


def through(running: Front) -> int:
    return len(running.behind.asked) + len(running.behind.health)


@pytest.mark.parametrize("target", TARGETS)
def test_without_the_key_nothing_but_health_answers(running: Front, target: str) -> None:
    before = through(running)
    answer = running.ask(target)
    assert status_of(answer) in (400, 401), answer
    assert through(running) == before


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["/invocations", "/health"])
def test_no_other_method_gets_round_the_key(running: Front, method: str, target: str) -> None:
    if (method, target) == ("HEAD", "/health"):
        return
    before = through(running)
    answer = running.ask(target, method=method)
    assert status_of(answer) == 401, answer
    assert through(running) == before


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_answers_without_the_key(running: Front, method: str) -> None:
    before = len(running.behind.health)
    answer = running.ask("/health", method=method)
    assert status_of(answer) == 200
    body = b"healthy\n" if method == "GET" else b""
    assert answer.endswith(b"\r\n\r\n" + body)  # nothing of what the server says of itself
    (asked,) = running.behind.health[before:]
    assert asked.line == "GET /health HTTP/1.1"


@pytest.mark.parametrize(
    "lines",
    [
        ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQA"),
        ("Upgrade: websocket", "Connection: Upgrade"),
        (f"Authorization: Bearer {KEY}", "X-Forwarded-For: 10.0.0.1"),
    ],
)
def test_health_opens_no_tunnel_and_passes_no_key_on(
    running: Front, lines: tuple[str, ...]
) -> None:
    before = len(running.behind.health)
    assert running.status("/health", *lines) == 200
    (asked,) = running.behind.health[before:]
    assert asked.values("connection") == ["close"]
    assert asked.values("upgrade") == asked.values("authorization") == []


def test_what_follows_health_on_one_connection_needs_the_key(running: Front) -> None:
    before = len(running.behind.asked)
    answer = running.send(
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
        b"GET /invocations HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert answer.count(b"HTTP/1.1 401 Unauthorized") == 1
    assert len(running.behind.asked) == before


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 45\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Content-Length: 0\r\nContent-Length: 45\r\n",
    ],
)
def test_a_second_request_in_a_body_is_not_passed_on(running: Front, framing: bytes) -> None:
    inner = b"0\r\n\r\nGET /invocations HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
    before = len(running.behind.asked)
    running.send(
        b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + framing + b"\r\n" + inner
    )
    assert len(running.behind.asked) == before


def test_with_the_key_too_nobody_asks_past_the_proxys_own_paths(running: Front) -> None:
    assert running.status("/dync-health", GOOD) == 404


def test_the_key_opens_every_path(running: Front) -> None:
    for target in ("/v1/models", "/invocations", "/metrics", "/"):
        assert running.status(target, GOOD) == 200
        assert running.behind.asked[-1].line == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer   "])
def test_the_scheme_is_read_whatever_its_case(running: Front, scheme: str) -> None:
    assert running.status("/v1/models", f"Authorization: {scheme} {KEY}") == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Bearer{KEY}",
        f"Basic {KEY}",
        f"Bearer {KEY.lower()}",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY.swapcase()}",
        f"Bearer {KEY}x",
        f"Bearer x{KEY}",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY[1:]}",
        f"xBearer {KEY}",
        f"Bearer {KEY}, Bearer {KEY}",
        f"Bearer\t{KEY}",
        f"Bearer {KEY}\x00",
        f"Bearer {KEY}\xa0",
    ],
)
def test_only_the_key_itself_is_the_key(running: Front, value: str) -> None:
    before = through(running)
    answer = running.ask("/v1/models", f"Authorization: {value}")
    assert status_of(answer) in (400, 401), answer
    assert through(running) == before


def test_of_two_authorizations_the_first_counts_or_neither(running: Front) -> None:
    wrong = "Authorization: Bearer no"
    before = through(running)
    assert running.status("/v1/models", wrong, GOOD) in (400, 401)
    assert running.status("/v1/models", wrong, wrong) in (400, 401)
    assert through(running) == before


@pytest.mark.parametrize("name", ["X-Api-Key", "Api-Key", "Proxy-Authorization", "Cookie"])
def test_no_other_header_carries_the_key(running: Front, name: str) -> None:
    assert running.status("/v1/models", f"{name}: Bearer {KEY}") == 401


def test_a_refusal_reads_like_openais(running: Front) -> None:
    answer = running.ask("/v1/models")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nWWW-Authenticate: Bearer" in head
    assert b"\r\nContent-Type: application/json" in head
    assert b'"code": "invalid_api_key"' in body
    assert b"nginx/" not in answer
    assert KEY.encode() not in answer


def test_behind_the_proxy_nobody_is_told_the_key_who_asks_none(running: Front) -> None:
    assert running.status("/v1/models", GOOD, "X-Forwarded-For: 10.9.9.9") == 200
    asked = running.behind.asked[-1]
    assert asked.values("authorization") == []
    assert asked.values("x-forwarded-for") == ["127.0.0.1"]


def test_where_health_is_asked_on_this_host_nothing_else_is(running: Front) -> None:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    health = running.plan.entry.ready.url
    assert urlopen(health).status == 200
    before = through(running)
    for path in ("/v1/models", "/health/../invocations", "/HEALTH", "//invocations"):
        with pytest.raises(HTTPError, match="404"):
            urlopen(health.removesuffix("/health") + path)
    assert through(running) == before
