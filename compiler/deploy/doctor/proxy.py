"""The proxy: its program, the key that it asks for, and the certificate that it shows."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from compiler.addresses import is_loopback
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, skipped, warned
from compiler.process import TLS_KEY, Process
from compiler.write.safe_read import read_named

PROGRAM = "nginx"
LONGEST_KEY = 512
"""In bytes, as lib/proxy.sh has it."""
SOON_S = 14 * 24 * 3600
_KEY = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")
_NAME = re.compile(r"[A-Za-z]")


def check(subject: Subject) -> Iterator[Finding]:
    """Look at all that nginx will need, where a plan has a proxy."""
    process = subject.plan.proxy
    if process is None:
        return
    yield _program(subject, process)
    yield from _api_key(subject)
    certificate, key = subject.plan.certificate_file, process.secrets.get(TLS_KEY, "")
    if certificate:
        yield from _certificate(subject, Path(certificate), Path(key), process.listens[0].host)


def _program(subject: Subject, process: Process) -> Finding:
    """Look for nginx in the folders that the process will search."""
    found = subject.found_program(process, PROGRAM)
    if found:
        return passed("proxy", PROGRAM, f"{process.name} runs {found}")
    return failed(
        "proxy", PROGRAM, f"there is no {PROGRAM}", "apt install nginx-light, or dnf install nginx"
    )


def _api_key(subject: Subject) -> Iterator[Finding]:
    """Look whether a client can send the key; check `secrets` says where there is none."""
    file = subject.plan.api_key_file
    try:
        text = read_named(subject.host.at(Path(file))) if file else b""
    except OSError:
        return
    key = text.decode("latin-1").rstrip("\n")
    if key and (len(key) > LONGEST_KEY or not _KEY.match(key)):
        yield failed(
            "proxy", file,
            f"the key in {file} is longer than {LONGEST_KEY} bytes, or is not one line of "
            "printable ASCII without a space at its ends",
            f"write another one: openssl rand -hex 32 > {file}",
        )  # fmt: skip


def _certificate(subject: Subject, certificate: Path, key: Path, host: str) -> Iterator[Finding]:
    """Do what nginx and a client do: load both files, and greet each other."""
    files = [subject.host.at(path) for path in (certificate, key)]
    if not all(map(os.path.isfile, files)):
        return  # check `secrets` says so
    if not all(os.access(path, os.R_OK) for path in files):
        yield skipped("proxy", str(certificate), "you cannot read it and its key", "run as root")
        return
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(files[0], files[1], password=_no_passphrase)
    except (OSError, ValueError) as error:
        yield failed(
            "proxy", str(certificate),
            f"{certificate} and {key} are no certificate and its key: {_reason(error)}",
            "give frontend.tls both files as PEM, the key without a passphrase",
        )  # fmt: skip
        return
    yield _age(server, files[0], certificate)
    is_name = _NAME.match(host) and ":" not in host and not is_loopback(host)
    refusal = _greet(server, files[0], host)[1] if is_name else ""
    if refusal:
        yield warned(
            "proxy", str(certificate), f"clients of {host} refuse it: {refusal}",
            "give frontend.tls a certificate with that name",
        )  # fmt: skip


def _age(server: ssl.SSLContext, file: Path, certificate: Path) -> Finding:
    shown, error = _greet(server, file)
    if error:
        return failed("proxy", str(certificate), f"clients refuse it: {error}", "renew it")
    left_s = ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()
    until = f"it is good until {shown['notAfter']}"
    if left_s < SOON_S:
        fix = "renew it, and restart the proxy: it reads the files when it starts"
        return warned("proxy", str(certificate), until, fix)
    return passed("proxy", str(certificate), f"{until}, and its key belongs to it")


def _greet(server: ssl.SSLContext, file: Path, host: str = "") -> tuple[dict[str, str], str]:
    """Let a client that trusts this certificate connect, in memory; return it, or the refusal."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = bool(host)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cafile=file)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there, server_hostname=host or None)
    answering = server.wrap_bio(there, back, server_side=True)
    for side in (asking, answering, asking):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return {}, error.verify_message
        except ssl.SSLError as error:
            return {}, _reason(error)
    return dict(asking.getpeercert() or {}), ""  # type: ignore[arg-type]


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase, which nobody is there to give")


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
