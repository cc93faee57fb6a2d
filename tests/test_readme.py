"""The README's profile compiles, and what pages show of dync is what it says."""

from __future__ import annotations

import re

from compiler.library import library, load_shape, load_stack
from compiler.model.asked import asked_model
from compiler.pipeline import compile_profile
from compiler.report.diagnostics import in_order
from compiler.report.memory import memory_text
from compiler.report.text import as_text
from tests.support import PROFILES, ROOT, compile_file, plan_in

README = (ROOT / "README.md").read_text("utf-8")
PROFILE = "".join(re.findall(r"```yaml\n# disagg.yaml\n(.*?)```", README, re.DOTALL))
PROFILES_PAGE = (ROOT / "docs" / "profiles.md").read_text("utf-8")
TEXTS = re.findall(r"```text\n(.*?)```", README + PROFILES_PAGE, re.DOTALL)
ERROR = next(text for text in TEXTS if "[chunk-size-alignment]" in text)
MEMORY = next(text for text in TEXTS if "full prompts" in text)
SIDES = next(text for text in TEXTS if "decode, line" in text)


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


def test_the_table_of_caches_is_what_dync_says() -> None:
    plan = plan_in(compile_file(PROFILES / "agg.yaml"))
    asked, platform = asked_model(plan.model, [{}]), load_stack(plan.stack).platforms["cuda"]
    assert memory_text(plan, load_shape(asked), None, None, platform).startswith(MEMORY)


def test_the_two_sides_are_what_dync_says() -> None:
    """The lines of two groups that differ in dtype and block size, in the form of that profile."""
    lines = ["", "name: pair", "stack: vllm-0.32", "topology: disagg", "model:"]
    lines += ["  id: Qwen/Qwen3-0.6B", "workers:", "  - role: prefill", "    gpus: [0]"]
    text = "\n".join(lines[1:]) + "\n    engine_args: {dtype: float16, block_size: 32}\n"
    text += "  - role: decode\n    gpus: [1]\n    engine_args: {dtype: bfloat16}\n"
    compiled = compile_profile("pair.yaml", lambda _: text, (), library())
    said = as_text(in_order(compiled.diagnostics), compiled.sources)
    assert all(line.strip(" |") in said for line in SIDES.splitlines())
