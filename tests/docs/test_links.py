"""What pages point to is there: files, headings, folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compiler import bundle_paths
from tests.docs.blocks import named, pages
from tests.support import ROOT
from tests.test_layout import ORDER

DESIGN = ROOT / "docs" / "design"
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_TOPS = "benchmarks|compiler|demo|docs|profiles|schemas|templates|tests|tools"
_PATH = re.compile(rf"`((?:{_TOPS})/[^`]*)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub writes them."""
    titles = _HEADING.findall(page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def is_there(path: str) -> bool:
    """Return whether a path of the repository, with `<words>` and `*` for any name, is there.

    What stands behind :: in the name of a test is looked for by the test of docs/security.md.
    """
    file = path.partition("::")[0]
    return any(ROOT.glob(re.sub(r"<[^>]+>", "*", file).rstrip("/")))


@pytest.mark.parametrize("path", pages(), ids=named)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    lost = []
    for link in _LINK.findall(path.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        there = path if not target else (path.parent / target).resolve()
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize(
    "path", [item for item in pages() if item.name != "CHANGELOG.md"], ids=named
)
def test_paths_are_there(path: Path) -> None:
    found = _PATH.findall(path.read_text("utf-8"))
    assert [item for item in found if not is_there(" ".join(item.split()))] == []


def test_a_page_that_is_gone_is_seen() -> None:
    assert not is_there("compiler/cli/nothing.py")
    assert is_there("compiler/rules/<rule_id>.py")
    assert "what-works" in anchors_of(ROOT / "README.md")


def test_architecture_has_every_folder_and_is_one_page() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    within = [path.parent.name for path in (ROOT / "compiler").glob("*/__init__.py")]
    tops = {path.split("/")[0] for path in _TOPS.split("|")}
    rows = set(re.findall(r"^\| `([\w/]+)/` \|", page, re.MULTILINE))
    assert rows == {*(f"compiler/{name}" for name in within), *(tops - {"compiler"})}
    assert len(page.splitlines()) <= 80


def test_every_folder_of_the_repository_is_known() -> None:
    ignored = {"build", "dist", "__pycache__", *_TOPS.split("|")}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert {name for name in folders - ignored if not re.search(r"^\.|egg-info$", name)} == set()


def test_the_order_of_the_folders_is_one() -> None:
    """ARCHITECTURE's rows and the page about the order say what tests/test_layout.py checks."""
    rows = re.findall(r"^\| `compiler/(\w+)/`", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.M)
    text = (DESIGN / "order-of-folders.md").read_text("utf-8")
    line = next(line for line in text.splitlines() if line.startswith("    load <"))
    assert line.strip().split(" < ") == rows
    assert rows == [name for name in ORDER if name in rows]


def test_design_has_one_decision_a_page() -> None:
    index = (DESIGN / "README.md").read_text("utf-8")
    for page in DESIGN.glob("*.md"):
        if page.name == "README.md":
            continue
        title, *parts = _HEADING.findall(page.read_text("utf-8"))
        assert parts == ["Context", "Decision", "Consequences"]
        assert f"- [{title}]({page.name})" in index


def test_the_bundles_page_has_every_place_of_it() -> None:
    page = (ROOT / "docs" / "bundle.md").read_text("utf-8")
    places = [value for name, value in vars(bundle_paths).items() if name.isupper()]
    assert [value for value in places if isinstance(value, str) and f"`{value}`" not in page] == []


def test_every_tool_is_described_once() -> None:
    page = (ROOT / "tools" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+\.py)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "tools").glob("*.py"))
