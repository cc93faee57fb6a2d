"""The pictures of docs/screens are those that tools/screens.py draws."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.support import ROOT

SCREENS = sorted((ROOT / "docs/screens").glob("*.svg"))


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("screens", ROOT / "tools/screens.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_graphs_are_up_to_date() -> None:
    graphs: dict[str, str] = tool().graphs()
    held = {
        path.name: path.read_text("utf-8") for path in SCREENS if path.stem.startswith("graph-")
    }
    assert held == graphs, "run: python tools/screens.py --graphs"


@pytest.mark.parametrize("path", SCREENS, ids=lambda path: path.name)
def test_screens_need_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    assert ElementTree.fromstring(text).tag.endswith("}svg")
    assert re.findall(r"(?:href|src|url)\(?=?[\"'(]?https?:", text) == []
    assert "/root/" not in text
    assert "/tmp/" not in text


def test_pages_show_screens_that_are_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"screens/([\w.-]+)", page.read_text())}
    assert {"graph-disagg.svg", "up.svg"} <= named
    assert named <= {path.name for path in SCREENS}
