"""The commands that a page shows, and whether they can stand as they are written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from compiler.cli.main import dync
from tests.support import ROOT

_FENCED = re.compile(
    r"^(?:<!-- (?P<key>needs|ends): (?P<value>\S+) -->\n)?```(?:sh|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_ANY_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4,}(?P<text>\S(?:[^\n\\]|\\\n|\\.)*)$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_OPERATORS = {"&&", "||", "|", ";", "&"}
_OF_OTHERS = {
    "curl",
    "git",
    "grep",
    "loginctl",
    "mooncake_master",
    "pip",
    "prometheus",
    "systemctl",
}
_OF_OTHERS |= {"test", "unzip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Commands of one fenced block. needs: what a machine may lack; "" where they are run."""

    text: str
    needs: str
    ends: int


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page that are run or need something."""
    return [
        Block(
            text=found["text"],
            needs=found["value"] if found["key"] == "needs" else "",
            ends=int(found["value"]) if found["key"] == "ends" else 0,
        )
        for found in _FENCED.finditer(page)
    ]


def indented_commands(page: str) -> Iterator[str]:
    """Return the indented lines that begin with a program which this project runs."""
    for found in _INDENTED.finditer(_ANY_FENCE.sub("", page)):
        if re.match(r"(dync|python|pytest|make|pip|git) ", found["text"]):
            yield found["text"]


def faults_of(text: str) -> Iterator[str]:
    """Say of each command of a block why it cannot run as it is written."""
    for line in text.replace("\\\n", " ").splitlines():
        for words in _commands(line):
            fault = _fault(words)
            if fault:
                yield f"{shlex.join(words)}: {fault}"


def dync_fault(words: Sequence[str]) -> str:
    """Say why `dync` does not take these words; "" where it does."""
    rest = list(words)
    command = command_of(rest)
    if command is None:
        return f"there is no command {' '.join(words)}"
    try:
        command.make_context(command.name, rest)
    except click.exceptions.Exit:
        pass  # --help, --version
    except click.UsageError as error:
        return error.format_message()
    return ""


def command_of(words: list[str]) -> click.Command | None:
    """Return the command that words begin with, which are taken from them."""
    command: click.Command | None = dync
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.commands.get(words.pop(0))
    return command


def _commands(line: str) -> Iterator[list[str]]:
    """Split a line of shell at its operators; redirections are left out."""
    line = re.sub(r"<([\w-]+)>", r"\1", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter(lexer)
    for token in tokens:
        if token in _OPERATORS:
            yield words
            words = []
        elif token in {">", "<", ">>"}:
            next(tokens)
        else:
            words.append(token)
    if words:
        yield words


def _fault(words: list[str]) -> str:
    while words and (words[0] == "sudo" or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    program, *rest = words
    if program == "dync":
        return dync_fault(rest)
    if program == "make":
        return "" if re.search(rf"^{rest[0]}:", _text("Makefile"), re.MULTILINE) else "no target"
    if program in {"python", "pytest"} or program.endswith("/bin/python"):
        return _python_fault(program, rest)
    return "" if program in _OF_OTHERS else "no program that is known here"


def _python_fault(program: str, words: Sequence[str]) -> str:
    """Say which file is not there, of a module or of paths."""
    if words[:1] == ["-m"] and program != "pytest":
        name = words[1]
        place = ROOT / name.replace(".", "/")
        is_there = name == "pip" or place.with_suffix(".py").is_file() or place.is_dir()
        return "" if is_there else f"no module {name}"
    paths = [
        word.partition("::")[0] for word in words if re.match(r"(tests|tools|bench)\w*/", word)
    ]
    missing = [path for path in paths if not (ROOT / path).exists()]
    return f"not there: {', '.join(missing)}" if missing else ""


def _text(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def pages() -> list[Path]:
    """Return every page that people read."""
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "benchmarks").glob("*.md")),
        ROOT / "tools" / "README.md",
    ]


def named(path: Path) -> str:
    """Return a page's path from the root of the repository."""
    return path.relative_to(ROOT).as_posix()
