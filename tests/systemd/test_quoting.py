"""What systemd hands a process is what was quoted for it, whatever the text."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compiler.emit.quoting import (
    environment_line,
    printf_escapes,
    unit_assignment,
    unit_carries,
    unit_word,
)
from tests.hostile.test_round_trip import HOSTILE
from tests.systemd.machine import Machine

TRICKY = "%$\\\"'`;|&<>(){}[]*?~#!^=, \t\n\r\x01\x1b\x7f\x85\xa0\u2028\ufeffäß🦜@-+:aA0"
texts = st.text(TRICKY, max_size=8) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
carried = texts.filter(unit_carries)
numbers = itertools.count()
quiet = settings(
    deadline=None,
    max_examples=20,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def started(
    machine: Machine, shared: Path, words: list[str], values: list[str], file_values: list[str]
) -> tuple[list[str], dict[str, str]]:
    """Let systemd start two programs that tell their argv and environment."""
    name = f"quoting-{next(numbers)}"
    argv = [str(shutil.which("printf")), "%s\\0", *words]
    environment = [unit_assignment(f"V{n}", value) for n, value in enumerate(values)]
    lines = [environment_line(f"F{n}", value) for n, value in enumerate(file_values)]
    (shared / f"{name}.env").write_text("\n".join(lines) + "\n", "utf-8")
    unit = [
        "[Service]",
        "Type=oneshot",
        *(f"Environment={entry}" for entry in environment),
        f"EnvironmentFile={shared}/{name}.env",
        f"StandardOutput=append:{shared}/{name}.out",
        f"ExecStart={' '.join(map(unit_word, argv))}",
        "ExecStart=/usr/bin/env -0",
    ]
    path = machine.at(f"/run/systemd/system/{name}.service")
    path.write_text("\n".join(unit) + "\n", "utf-8")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", f"{name}.service")
    path.unlink()
    out = (shared / f"{name}.out").read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
    pairs = dict(item.split("=", 1) for item in out[len(words) :])
    return out[: len(words)], pairs


def assert_carried(
    machine: Machine, shared: Path, words: list[str], values: list[str], file_values: list[str]
) -> None:
    # printf repeats its format for each word, and once for none.
    found, pairs = started(machine, shared, words or [""], values, file_values)
    assert found == (words or [""])
    assert [pairs[f"V{n}"] for n in range(len(values))] == values
    assert [pairs[f"F{n}"] for n in range(len(file_values))] == file_values


@quiet
@given(
    words=st.lists(carried, max_size=25),
    values=st.lists(carried, max_size=25),
    file_values=st.lists(carried, max_size=25),
)
@example(words=["", ";", "\\;", "-x", "$$", "${HOME}", "%h", "%%"], values=[""], file_values=[""])
def test_any_text(
    machine: Machine, shared: Path, words: list[str], values: list[str], file_values: list[str]
) -> None:
    assert_carried(machine, shared, words, values, file_values)


def test_hostile_text(machine: Machine, shared: Path) -> None:
    hostile = list(HOSTILE.values())
    assert_carried(machine, shared, hostile, hostile, hostile)


@pytest.mark.parametrize("text", ["\ufffe", "\ufdd0", "a\U0001ffffb"])
def test_what_a_unit_does_not_carry_is_known(machine: Machine, shared: Path, text: str) -> None:
    """Checked against systemd itself: without the fence the text would be lost silently."""
    assert not unit_carries(text)
    _, pairs = started(machine, shared, ["x"], [f"a{text}"], [])
    assert "V0" not in pairs or pairs["V0"] != f"a{text}"


@quiet
@given(words=st.lists(texts, min_size=1, max_size=20))
@example(words=["\ufffe", "\\0101", "\\c", "a\\\\b", "%s"])
def test_printf_escapes_by_bash(words: list[str]) -> None:
    script = 'for word; do printf -v word %b "$word"; printf "%s\\0" "$word"; done'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *map(printf_escapes, words)], check=True, capture_output=True
    )
    assert done.stdout.decode().split("\0")[:-1] == words
    assert all(printf_escapes(word).isascii() for word in words)
