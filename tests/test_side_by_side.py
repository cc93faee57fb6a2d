"""The side-by-side page is what the plans say today."""

from __future__ import annotations

import subprocess
import sys

from tests.support import ROOT


def test_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "side_by_side.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (ROOT / "docs" / "side-by-side.md").read_text("utf-8")
