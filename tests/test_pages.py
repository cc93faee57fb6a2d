"""`dync explain`: every rule id has a page, and a page's examples are true."""

from __future__ import annotations

import re
import textwrap

import pytest

from compiler.diagnostic import Severity
from compiler.library import library
from compiler.pipeline import Compiled
from compiler.rules.explain import pages
from tests.support import ROOT, compile_text

PAGES = pages(library().stacks())
_RULE = re.compile(r'\bRule\(\s*"([a-z0-9-]+)"')
EXAMPLES = sorted(name for name, text in PAGES.items() if "\nAccepted:\n" in text)


def reported_ids() -> set[str]:
    found = {
        name
        for path in (ROOT / "compiler").rglob("*.py")
        if path.parent.name != "lint"  # what is said of dync's own data files, not of profiles
        for name in _RULE.findall(path.read_text("utf-8"))
    }
    cases = {case.id for name in library().stack_names for case in library().load_stack(name).cases}
    return found | cases


def test_every_rule_of_the_source_has_a_page() -> None:
    """The other way round too: a page for a rule that is gone would mislead."""
    assert {"yaml-key", "wrong-form", "set-option", "roles", "in-process-on-cpu"} <= reported_ids()
    assert reported_ids() == set(PAGES)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_reads_well(name: str) -> None:
    lines = PAGES[name].splitlines()
    assert lines[0]
    assert PAGES[name].endswith("\n")
    assert all(len(line) <= 110 for line in lines)
    assert "{" not in lines[0]
    assert re.search(r"^Source: \S", PAGES[name], re.MULTILINE)
    if name in EXAMPLES:
        assert ("\nRejected:\n" in PAGES[name]) != ("\nReported:\n" in PAGES[name])
    else:
        assert all(f"\n{word}" in PAGES[name] for word in ("Why (", "Fix: ", "Proof: ", "Stacks: "))


def compile_block(name: str, heading: str) -> Compiled:
    lines = PAGES[name].splitlines()
    start = lines.index(heading) + 1
    end = next(
        (at for at in range(start, len(lines)) if lines[at] and not lines[at].startswith("    ")),
        len(lines),
    )
    block = textwrap.dedent("\n".join(lines[start:end])).splitlines()
    overrides = [line.removeprefix("--set ") for line in block if line.startswith("--set ")]
    text = "\n".join(line for line in block if not line.startswith("--set ")) + "\n"
    return compile_text(text, *overrides)


@pytest.mark.parametrize("name", EXAMPLES)
def test_accepted_profile_is_accepted(name: str) -> None:
    compiled = compile_block(name, "Accepted:")
    assert name not in {found.rule for found in compiled.diagnostics}
    assert [found for found in compiled.diagnostics if found.severity is Severity.ERROR] == []
    assert compiled.resolved is not None


@pytest.mark.parametrize("name", EXAMPLES)
def test_rejected_profile_is_rejected_by_this_rule_alone(name: str) -> None:
    is_rejected = "\nRejected:\n" in PAGES[name]
    compiled = compile_block(name, "Rejected:" if is_rejected else "Reported:")
    assert {found.rule for found in compiled.diagnostics} == {name}
    is_error = any(found.severity is Severity.ERROR for found in compiled.diagnostics)
    words = "an example that is an error stands under Rejected:, another under Reported:"
    assert (compiled.resolved is None) == is_error == is_rejected, words
