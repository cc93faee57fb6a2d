"""Accounts of a host that is only an image, whatever its list of them holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.deploy.accounts import find_account
from compiler.deploy.installation import system_host


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (b"root:x:0:0::/:/bin/sh\ndync:x:998:997::/:/bin/false\n", (998, 997)),
        (b"other:x:1:1::/:\n", None),
        (b"dync:x\n", None),
        (b"dync:x:a:b::/:\n", None),
        (b"\xff\xfe\ndync:x:998:997::/:/bin/false\n", (998, 997)),
        (b"xdync:x:1:1::/:\ndync:x:2:3::/:\n", (2, 3)),
    ],
)
def test_an_image_has_the_accounts_of_its_own_list(
    lines: bytes, found: tuple[int, int] | None, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(lines)
    assert find_account(system_host(tmp_path), "dync") == found
    assert find_account(system_host(tmp_path / "nowhere"), "dync") is None
