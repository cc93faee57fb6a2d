"""`dync --help` and the help of each command: found by its heading, and whole on 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from compiler.cli.main import SECTIONS, dync

WIDE = 80


def all_commands(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    """Return the words of each command, groups too."""
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, *before, name)


COMMANDS = [(), *all_commands(dync)]


def help_of(*words: str) -> str:
    result = CliRunner(env={"COLUMNS": str(WIDE)}).invoke(dync, [*words, "--help"])
    assert result.exit_code == 0
    return result.stdout


def command_of(words: tuple[str, ...]) -> click.Command:
    found: click.Command = dync
    for word in words:
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


def test_every_command_stands_under_its_heading() -> None:
    text = help_of()
    places = [text.index(f"\n{heading}:\n") for heading in SECTIONS]
    assert places == sorted(places)
    for (heading, section), end in zip(SECTIONS.items(), [*places[1:], len(text)], strict=True):
        block = text[text.index(f"\n{heading}:\n") : end]
        for command in section:
            assert f"\n  {command.name} " in block
    named = [str(command.name) for section in SECTIONS.values() for command in section]
    assert sorted(named) == sorted(dync.commands)
    assert text.endswith("\n  start with: dync init\n")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_and_nothing_is_cut(words: tuple[str, ...]) -> None:
    lines = help_of(*words).splitlines()
    assert [line for line in lines if len(line) > WIDE] == []
    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage:")] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_help_says_something_of_each_option(words: tuple[str, ...]) -> None:
    command = command_of(words)
    options = [item for item in command.params if isinstance(item, click.Option)]
    assert [item.name for item in options if not item.help] == []
    first, *_ = (command.help or "").splitlines()
    assert first.endswith(".")


def test_verify_says_what_it_sends() -> None:
    """As docs/verify.md does: more than one prompt, and they stay in the caches."""
    text = " ".join(help_of("verify").split())
    assert "a new prompt, then another, then the first again" in text
    assert "stays in the caches" in text
