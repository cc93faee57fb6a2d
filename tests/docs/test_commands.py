"""A newcomer's path: every command of the pages runs as it is written.

What needs a GPU, root, a network or minutes is marked in the page, and only read by the command's
own parser.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.cli.main import dync
from tests.docs.blocks import (
    blocks_of,
    command_of,
    dync_fault,
    faults_of,
    indented_commands,
    named,
    pages,
)
from tests.support import PROFILES, ROOT

RUN = [
    path for path in pages() if any(not block.needs for block in blocks_of(path.read_text("utf-8")))
]
NEEDS = {"gpu", "minutes", "network", "prometheus", "root", "systemd"}
_FILE = re.compile(r"```yaml\n# (\S+\.yaml)\n(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`(dync [^`]+)`")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with the ready profiles, in which `dync` and `python` are these."""
    shutil.copytree(PROFILES, tmp_path / "profiles")
    (tmp_path / "bin").mkdir()
    for name, words in (("dync", " -m compiler"), ("python", "")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("path", RUN, ids=named)
def test_the_commands_of_a_page_run_in_order(path: Path, place: Path) -> None:
    page = path.read_text("utf-8")
    for name, text in _FILE.findall(page):
        (place / name).write_text(text, "utf-8")
    environment = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(place),
    }
    for block in blocks_of(page):
        if block.needs:
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == block.ends, f"{block.text}{done.stdout}{done.stderr}"


@pytest.mark.parametrize("path", pages(), ids=named)
def test_every_command_is_one(path: Path) -> None:
    page = path.read_text("utf-8")
    texts = [*(block.text for block in blocks_of(page)), *indented_commands(page)]
    assert [fault for text in texts for fault in faults_of(text)] == []
    assert {block.needs for block in blocks_of(page)} <= {"", *NEEDS}


@pytest.mark.parametrize("path", pages(), ids=named)
def test_commands_within_a_sentence_and_their_options_are_there(path: Path) -> None:
    faults = []
    for text in _INLINE.findall(path.read_text("utf-8")):
        words = [word for word in text.split()[1:] if word != "…"]
        options = {word.partition("=")[0] for word in words if word.startswith("-")}
        command = command_of(words)
        known = {name for item in command.params for name in item.opts} if command else set()
        if command is None or not options <= {*known, "--help", "--version"}:
            faults.append(text)
    assert faults == []


def test_the_first_page_is_run_and_its_table_has_every_command() -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    assert ROOT / "README.md" in RUN
    assert "`make demo`" in page
    assert list(faults_of("make demo")) == []
    rows = re.findall(r"^\| `dync (\w+)", page, re.MULTILINE)
    assert sorted(rows) == sorted(dync.commands), "the table of README.md"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dync biuld x.yaml", "there is no command biuld"),
        ("dync build x.yaml --owerwrite", "No such option"),
        ("dync stack get vllm-0.32", "there is no command stack get"),
        ("dync init both", "'both' is not one of"),
        ("sudo dync up", "Missing argument"),
        ("dync check x.yaml && mkae demo", "no program"),
        ("make dmeo", "no target"),
        ("pytest tests/test_nothing.py", "not there"),
        ("python tools/nothing.py > page.md", "not there"),
        ("python -m benchmarks.nothing", "no module"),
    ],
)
def test_what_is_no_command_is_seen(text: str, words: str) -> None:
    assert [words in fault for fault in faults_of(text)] == [True]


def test_what_dync_takes_is_no_fault() -> None:
    assert dync_fault(["--version"]) == ""
    assert dync_fault(["check", "x.yaml", "--set", "a=b"]) == ""
