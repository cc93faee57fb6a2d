"""Ask a server of the deployment over HTTP: never through a proxy, never longer than told."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compiler.process import Process

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


@contextmanager
def posted(
    url: str, body: Mapping[str, Any], key: str, timeout_s: float, certificate: str = ""
) -> Iterator[Iterator[bytes]]:
    """Post JSON and return the answer's lines as they come; timeout_s holds between two of them.

    certificate: the file of the one that an https server must show.
    Errors: NO_ANSWER; urllib's HTTPError carries what the server said.
    """
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    send = _open_pinned(certificate) if certificate else open_url
    with send(request, timeout=timeout_s) as response:
        yield iter(lambda: response.readline(_LONGEST_LINE), b"")


def _open_pinned(certificate: str) -> Callable[..., Any]:
    """Return what opens a URL of a server that shows one certificate, and nobody else's.

    That certificate is asked for itself, so on loopback too, which no certificate names: its names
    are for its clients, and `dync doctor` reads them.
    """
    text = Path(certificate).read_text("ascii", "replace")
    first = text[text.index(_PEM_BEGIN) : text.index(_PEM_END) + len(_PEM_END)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=first)
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers).open


def said(error: Exception) -> str:
    """Say in one line why no answer came."""
    if isinstance(error, urllib.error.HTTPError):
        text = error.read(2000).decode("utf-8", "replace").strip().replace("\n", " ")
        return f"status {error.code}: {text[:300]}" if text else f"status {error.code}"
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"it does not show the certificate of frontend.tls: {reason.verify_message}"
    return str(reason or error) or type(error).__name__
