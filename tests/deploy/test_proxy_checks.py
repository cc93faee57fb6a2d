"""What doctor says of the proxy's key and certificate, on files made so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from compiler.deploy.doctor import proxy
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Verdict
from compiler.library import templates
from tests.proxy.conftest import make_certificate
from tests.support import AGG, plan_of


def found(folder: Path, certificate: Path, key: Path, host: str = "127.0.0.1") -> dict[str, str]:
    """Return what is said of the certificate, by verdict; nginx's own line left out."""
    plan = plan_of(
        AGG,
        f"frontend.host={host}",
        "frontend.allow_unauthenticated=true",
        f"frontend.tls.certificate={certificate}",
        f"frontend.tls.key={key}",
    )
    findings = proxy.check(Subject(plan=plan, stack=None, folder=folder))
    return {item.verdict.value: item.line for item in findings if item.subject != "nginx"}


def test_a_certificate_with_its_key_is_right(tmp_path: Path) -> None:
    said = found(tmp_path, *make_certificate(tmp_path))
    assert list(said) == ["pass"]
    assert "its key belongs to it" in said["pass"]


def test_one_that_ends_soon_is_a_warning(tmp_path: Path) -> None:
    said = found(tmp_path, *make_certificate(tmp_path, days=13))
    assert list(said) == ["warn"]
    assert "renew it, and restart the proxy" in said["warn"]


def test_one_that_is_over_is_refused(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    subprocess.run(
        [
            "openssl",
            "x509",
            "-in",
            certificate,
            "-signkey",
            key,
            "-days",
            "-1",
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    assert "certificate has expired" in found(tmp_path, certificate, key)["fail"]


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, "one.example")
    _, other = make_certificate(tmp_path, "two.example")
    assert "KEY_VALUES_MISMATCH" in found(tmp_path, certificate, other)["fail"]


@pytest.mark.parametrize("text", ["", "nonsense\n", "-----BEGIN CERTIFICATE-----\nxx\n"])
def test_what_is_no_pem_is_refused(tmp_path: Path, text: str) -> None:
    certificate, key = make_certificate(tmp_path)
    certificate.write_text(text)
    assert "are no certificate and its key" in found(tmp_path, certificate, key)["fail"]


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    subprocess.run(
        ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:word", "-out", key],
        check=True,
        capture_output=True,
    )
    assert "the key has a passphrase" in found(tmp_path, certificate, key)["fail"]


def test_a_name_that_the_certificate_has_not_is_a_warning(tmp_path: Path) -> None:
    files = make_certificate(tmp_path, "gpu01.example")
    assert list(found(tmp_path, *files, host="gpu01.example")) == ["pass"]
    said = found(tmp_path, *files, host="gpu02.example")
    assert "Hostname mismatch" in said["warn"]
    assert "clients of gpu02.example refuse it" in said["warn"]


def test_a_chain_signed_by_others_is_right(tmp_path: Path) -> None:
    authority, its_key = make_certificate(tmp_path, "authority.example")
    certificate, key = make_certificate(tmp_path, "leaf.example")
    request = tmp_path / "request"
    for command in (
        ["req", "-new", "-key", key, "-subj", "/CN=leaf.example", "-out", request],
        ["x509", "-req", "-in", request, "-CA", authority, "-CAkey", its_key, "-days", "30"],
    ):
        words = [*command, *(["-out", certificate] if command[0] == "x509" else [])]
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    certificate.write_text(certificate.read_text() + authority.read_text())
    assert list(found(tmp_path, certificate, key)) == ["pass"]


def test_the_longest_key_is_the_scripts(tmp_path: Path) -> None:
    assert f"most_bytes={proxy.LONGEST_KEY}\n" in templates()["lib/proxy.sh"]
    file = tmp_path / "key"
    for key, verdicts in {
        "a" * proxy.LONGEST_KEY + "\n": [],
        "a" * (proxy.LONGEST_KEY + 1): [Verdict.FAIL],
        "a b": [],
        " a": [Verdict.FAIL],
        "a ": [Verdict.FAIL],
        "a\tb": [Verdict.FAIL],
        "schlüssel": [Verdict.FAIL],
    }.items():
        file.write_text(key)
        plan = plan_of(AGG, f"frontend.api_key_file={file}")
        findings = proxy.check(Subject(plan=plan, stack=None, folder=tmp_path))
        assert [item.verdict for item in findings if item.subject != "nginx"] == verdicts, key
