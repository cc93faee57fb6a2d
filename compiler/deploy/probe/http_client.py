"""Ask a server of the deployment over HTTP: never through a proxy, never longer than told."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from compiler.deploy.probe.sockets import Ownership
from compiler.process import Process
from compiler.write.safe_read import read_named

WITHIN_S = 5
_LONGEST_LINE = 1 << 20
_PEM_BEGIN, _PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
NO_ANSWER = (OSError, ValueError, http.client.HTTPException)
"""What a request may end with where no answer comes; urllib's own errors are OSErrors."""


def process_url(process: Process, path: str = "") -> str:
    """Return where a process answers HTTP, at the address of its readiness check."""
    return process.ready.url.removesuffix(process.ready.path) + path


def get(url: str, timeout_s: float = WITHIN_S) -> str | None:
    """Return what a GET is answered with; None where it is not, or not with 200."""
    try:
        with open_url(url, timeout=timeout_s) as response:
            text: str = response.read().decode("utf-8", "replace")
            return text
    except NO_ANSWER:
        return None


def get_json(url: str, timeout_s: float = WITHIN_S) -> dict[str, Any] | None:
    """Return the JSON object that a GET is answered with; None where there is none."""
    text = get(url, timeout_s)
    try:
        found = json.loads(text) if text is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The key that a deployment asks for, "" for none, and whose sockets may get it."""

    key: str
    own: Ownership


@contextmanager
def posted(
    url: str, body: Mapping[str, Any], access: Access, timeout_s: float, certificate: str = ""
) -> Iterator[Iterator[bytes]]:
    """Post JSON and return the answer's lines as they come; timeout_s holds between two of them.

    Nothing is sent, and no key above all, where the address is another's than the deployment's.
    certificate: the file of the one that an https server must show.
    Errors: NO_ANSWER; urllib's HTTPError carries what the server said.
    """
    headers = {"Content-Type": "application/json"}
    if access.key:
        headers["Authorization"] = f"Bearer {access.key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    to_own: urllib.request.BaseHandler = (
        _ToOwnTls(access.own, _pinned(certificate)) if certificate else _ToOwn(access.own)
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), to_own)
    with opener.open(request, timeout=timeout_s) as response:
        yield iter(lambda: response.readline(_LONGEST_LINE), b"")


def _pinned(certificate: str) -> ssl.SSLContext:
    """Return what talks to a server that shows one certificate, and to nobody else's.

    That certificate is asked for itself, so on loopback too, which no certificate names: its names
    are for its clients, and `dync doctor` reads them.
    """
    text = read_named(Path(certificate)).decode("ascii", "replace")
    first = text[text.index(_PEM_BEGIN) : text.index(_PEM_END) + len(_PEM_END)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=first)
    return context


class _ToOwn(urllib.request.HTTPHandler):
    """Connect to the deployment's own sockets alone."""

    def __init__(self, own: Ownership) -> None:
        super().__init__()
        self._own = own

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a request; urllib calls this."""
        own = self._own

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                own.connect(super().connect, self.host, self.port)

        return self.do_open(Connection, request)


class _ToOwnTls(urllib.request.HTTPSHandler):
    """As _ToOwn, to a server that shows a certificate."""

    def __init__(self, own: Ownership, context: ssl.SSLContext) -> None:
        super().__init__()
        self._own, self._pinned = own, context

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a request; urllib calls this."""
        own = self._own

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                own.connect(super().connect, self.host, self.port)

        return self.do_open(partial(Connection, context=self._pinned), request)


def said(error: Exception) -> str:
    """Say in one line why no answer came."""
    if isinstance(error, urllib.error.HTTPError):
        text = error.read(2000).decode("utf-8", "replace").strip().replace("\n", " ")
        return f"status {error.code}: {text[:300]}" if text else f"status {error.code}"
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"it does not show the certificate of frontend.tls: {reason.verify_message}"
    return str(reason or error) or type(error).__name__
