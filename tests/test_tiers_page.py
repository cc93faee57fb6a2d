"""docs/storage-tiers.md says what the stacks' data says, and only what tests or hands have done."""

from __future__ import annotations

import subprocess
import sys

from compiler.deploy.verify.tier_counts import MEASURES
from compiler.library import load_stack
from compiler.shipped_files import stack_names, tiers_text
from compiler.stacks.combinations import all_known
from compiler.stacks.tier_specs import parse_tiers
from compiler.topology import Accelerator, CacheMode
from tests.support import ROOT


def test_table_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "tiers_page.py"), "--print"],
        capture_output=True,
        text=True,
        check=True,
    )
    page = (ROOT / "docs" / "storage-tiers.md").read_text("utf-8")
    assert done.stdout == page, "python tools/tiers_page.py"


def offered(release: str) -> set[CacheMode]:
    """Return the modes that some stack with this data file does not refuse."""
    stacks = [load_stack(name) for name in stack_names()]
    return {
        known.combination.mode
        for stack in stacks
        if stack.tiers == release
        for accelerator in stack.platforms
        for known in all_known(stack, Accelerator(accelerator))
        if known.case is None
    }


def test_every_form_is_described() -> None:
    for path in (ROOT / "schemas" / "tiers").glob("*.yaml"):
        for kind, item in parse_tiers(tiers_text(path.stem)).items():
            assert set(item.modes) == {mode.value for mode in offered(path.stem)}, kind
            for form in item.modes.values():
                if form.refused:
                    assert form.fix
                    continue
                assert form.verified in ("real", "configuration", "paper")
                assert form.needs
                assert form.bounded
                assert form.proof
                assert form.place
                assert form.counted_by in ("", *MEASURES)
                assert bool(form.server) == (form.counted_by == "keys")
                assert form.folder or not (form.refused_on or form.needs_fs or form.wants_driver)
