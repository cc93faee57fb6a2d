"""The README's profile compiles, and its error is what the command says."""

from __future__ import annotations

import re
from pathlib import Path

from compiler.library import library
from compiler.pipeline import compile_profile
from compiler.report import in_order
from compiler.report.text import as_text

README = (Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
PROFILE = "".join(re.findall(r"```yaml\n# disagg.yaml\n(.*?)```", README, re.DOTALL))
ERROR = "".join(re.findall(r"```text\n(.*?)```", README, re.DOTALL))


def test_the_profile_has_nothing_to_say() -> None:
    compiled = compile_profile("disagg.yaml", lambda _: PROFILE, (), library())
    assert compiled.diagnostics == ()
    assert compiled.resolved is not None
    names = [process.name for process in compiled.resolved.plan.processes]
    assert names == ["lmcache-prefill-0", "decode-0", "prefill-0", "router"]


def test_the_error_is_what_dync_says() -> None:
    text = "# disagg.yaml\n" + PROFILE.replace("chunk_size: 256", "chunk_size: 200")
    compiled = compile_profile("disagg.yaml", lambda _: text, (), library())
    assert as_text(in_order(compiled.diagnostics), compiled.sources) == ERROR
