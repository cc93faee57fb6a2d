"""What others wrote steers no terminal: names of files, of processes, words of logs."""

from __future__ import annotations

import ast
import io
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.text import Text

from compiler.cli.main import dync
from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.report.terminal import Console
from compiler.report.visible import visible
from compiler.write.bundle import write
from compiler.write.strict_json import MOST_BYTES, NotStrict, read_json
from tests.support import AGG, ROOT, plan_of

BELL = "\x07"
ODD = "\x1b]0;own\x07\x1b[31mred\u202egnp\x9b2J"


def test_what_steers_is_written_out() -> None:
    assert visible(f"a\tb\n{ODD}") == (
        "a\tb\n\\u001b]0;own\\u0007\\u001b[31mred\\u202egnp\\u009b2J"
    )
    assert visible("Grüße 世界 \N{NO-BREAK SPACE}") == "Grüße 世界 \N{NO-BREAK SPACE}"


def test_a_console_keeps_its_colours_alone() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200, color_system="standard")
    console.print(Text(ODD, style="red"))
    assert out.getvalue() == f"\x1b[31m{visible(ODD.replace(BELL, ''))}\x1b[0m\n"  # rich drops it


@pytest.mark.parametrize(
    "words",
    [
        ("install", "BUNDLE", "--root", "IMAGE", "--no-start"),
        ("build", "PROFILE", "-o", "BUNDLE"),
        ("down", ODD),
        ("check", ODD),
        ("stack", "show", ODD),
        (ODD,),
    ],
)
def test_no_command_prints_a_name_as_it_is(words: tuple[str, ...], tmp_path: Path) -> None:
    bundle, profile = tmp_path / "bundle", tmp_path / "p.yaml"
    write(emit(plan_of(AGG), templates()), bundle)
    (bundle / ODD).touch()
    (tmp_path / "image").mkdir()
    profile.write_text(AGG)
    places = {"BUNDLE": str(bundle), "IMAGE": str(tmp_path / "image"), "PROFILE": str(profile)}
    done = CliRunner().invoke(dync, [places.get(word, word) for word in words])
    assert done.exit_code
    assert "own" in done.output
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output


def test_all_that_is_printed_goes_one_way() -> None:
    """Each print of dync is one that writes out what steers."""
    wrong = []
    for path in sorted((ROOT / "compiler").rglob("*.py")):
        text = path.read_text("utf-8")
        is_clean = "from compiler.report.terminal import Console" in text
        for node in ast.walk(ast.parse(text)):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if call in ("click.echo", "click.secho", "print") or (
                call == "Console" and not is_clean
            ):
                wrong.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    assert wrong == [
        "compiler/__main__.py: print(f'dync: error: {visible(message)}', file=sys.stderr)",
        "compiler/cli/echo.py: click.echo(visible(text), err=err, nl=nl)",
    ]


def test_doubled_keys_are_found_in_time_that_grows_as_the_text_does() -> None:
    many = b",".join(b'"f%d":1' % number for number in range(300_000))
    began = time.process_time()
    with pytest.raises(NotStrict, match='the key "f299999" is there twice'):
        read_json(b"{" + many + b',"f299999":1}')
    assert time.process_time() - began < 20


def test_a_plan_without_end_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    write(emit(plan_of(AGG), templates()), bundle)
    for name in (".dync.json", "plan.json"):
        with (bundle / name).open("r+b") as file:
            file.truncate(MOST_BYTES + 1)
        for words in (("diff", str(bundle), str(bundle)), ("down", str(bundle))):
            done = CliRunner().invoke(dync, words)
            assert isinstance(done.exception, SystemExit | None)
        done = CliRunner().invoke(dync, ["diff", str(bundle), str(bundle)])
        assert f"larger than {MOST_BYTES} bytes" in done.output
