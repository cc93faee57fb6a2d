"""The command line: files, streams, exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import compiler.library
from compiler import __main__ as program
from compiler.cli.main import dync
from tests.support import AGG

WARNS = AGG.replace("gpus: [0]", "gpus: [0], engine_args: {disable_cascade_attn: true}")
FAILS = AGG + "lmcache: {chunk_size: 200}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("good", AGG), ("bad", FAILS), ("warns", WARNS)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(dync, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.mark.parametrize("command", ["check", "build"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["good.yaml"], 0),
        (["good.yaml", "--strict"], 0),
        (["warns.yaml"], 0),
        (["warns.yaml", "--strict"], 1),
        (["bad.yaml"], 1),
        (["bad.yaml", "--set", "lmcache.chunk_size=512"], 0),
        (["good.yaml", "--set", "nonsense"], 1),
        (["missing.yaml"], 2),
        (["."], 2),
        (["good.yaml\0"], 2),
        (["good.yaml", "--format", "xml"], 2),
        ([], 2),
    ],
)
def test_status(command: str, arguments: list[str], status: int, folder: Path) -> None:
    result = run(command, *arguments)
    assert result.exit_code == status, result.output
    assert result.output
    assert (folder / "build").exists() == (command == "build" and status == 0)


def test_check_writes_findings_to_stderr_and_ok_to_stdout() -> None:
    result = run("check", "warns.yaml")
    assert result.stdout == "warns.yaml: ok\n"
    assert "warning: " in result.stderr
    assert run("check", "bad.yaml").stdout == ""


@pytest.mark.parametrize("style", ["json", "github", "sarif"])
def test_formats_go_to_stdout_alone(style: str) -> None:
    for name in ("good.yaml", "bad.yaml"):
        result = run("check", name, "--format", style)
        assert result.stderr == ""
        assert ("chunk-size-alignment" in result.stdout) == (name == "bad.yaml")
        if style != "github":
            json.loads(result.stdout)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the profile is empty"),
        (b"\xef\xbb\xbf" + AGG.encode(), "bom.yaml: ok"),
        (b"name: \xff\n", "byte 0xFF is not UTF-8 text"),
        (AGG.replace("\n", "\r\n").encode(), "bom.yaml: ok"),
        (b"\x00", "U+0000"),
    ],
)
def test_file_contents(content: bytes, words: str, folder: Path) -> None:
    (folder / "bom.yaml").write_bytes(content)
    result = run("check", "bom.yaml")
    assert words in result.output
    assert result.exit_code == (0 if "ok" in words else 1)


def test_too_large_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.library, "MAX_BYTES", 100)
    result = run("check", "good.yaml")
    assert result.exit_code == 2
    assert "larger than 100 bytes" in result.stderr


def test_several_profiles_are_checked_as_one_host(folder: Path) -> None:
    (folder / "other.yaml").write_text(AGG.replace("name: one", "name: other"))
    result = run("check", "good.yaml", "other.yaml")
    assert result.exit_code == 1
    assert "one/aggregated-0" in result.stderr
    assert "[port-conflict]" in result.stderr
    moved = AGG.replace("name: one", "name: other") + (
        "frontend: {port: 9000}\ndeploy: {first_port: 9100}\n"
    )
    (folder / "other.yaml").write_text(moved)
    assert run("check", "good.yaml", "other.yaml").exit_code == 0
    built = run("build", "good.yaml", "other.yaml")
    assert built.exit_code == 0
    assert sorted(path.name for path in (folder / "build").iterdir()) == ["one", "other"]


def test_build_says_what_it_did(folder: Path) -> None:
    first = run("build", "good.yaml", "-o", "there")
    assert first.stdout.startswith("wrote there: ")
    assert "start it: dync up there" in first.stdout
    assert run("build", "good.yaml", "-o", "there").stdout.startswith("unchanged there")
    bytecode = folder / "there" / "lib" / "__pycache__"
    bytecode.mkdir()
    (bytecode / "dync_redis.cpython-312.pyc").write_bytes(b"as an engine leaves it")
    assert run("build", "good.yaml", "-o", "there").stdout.startswith("unchanged there")
    (folder / "there" / "launch.sh").write_text("mine")
    refused = run("build", "good.yaml", "-o", "there")
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert (folder / "there" / "launch.sh").read_text() == "mine"
    assert run("build", "good.yaml", "-o", "there", "--overwrite").exit_code == 0


def test_one_out_for_two_profiles_is_a_usage_error() -> None:
    result = run("build", "good.yaml", "warns.yaml", "-o", "there")
    assert result.exit_code == 2
    assert "give one profile" in result.stderr


def test_two_profiles_of_one_name_are_a_usage_error(folder: Path) -> None:
    (folder / "twin.yaml").write_text(AGG + "frontend: {port: 9000}\ndeploy: {first_port: 9100}\n")
    result = run("build", "good.yaml", "twin.yaml")
    assert result.exit_code == 2
    assert "same name" in result.stderr
    assert not (folder / "build").exists()


def test_init(folder: Path) -> None:
    assert "topology: agg" in run("init").stdout
    assert run("init", "disagg", "-o", "new.yaml").exit_code == 0
    assert run("check", "new.yaml").exit_code == 0
    result = run("init", "agg", "-o", "new.yaml")
    assert result.exit_code == 1
    assert "new.yaml exists" in result.stderr
    assert "topology: disagg" in (folder / "new.yaml").read_text()
    assert run("init", "monolith").exit_code == 2


def test_explain() -> None:
    assert run("explain", "roles").stdout.startswith("roles: Workers have the roles")
    assert "roles " in run("explain").stdout
    result = run("explain", "role")
    assert result.exit_code == 2
    assert "did you mean roles?" in result.stderr
    assert "lists them" in run("explain", "qqqqqq").stderr


def test_schema_is_json() -> None:
    assert json.loads(run("schema").stdout)["title"] == "dync profile"


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("dync, version ")
    assert run("--help").exit_code == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "build"), "build: No space left on device"),
        (RuntimeError("boom"), "internal error: RuntimeError('boom')"),
    ],
)
def test_unexpected_failures_are_one_line(
    error: Exception,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.delenv("DYNC_TRACEBACK", raising=False)
    monkeypatch.setattr(dync, "main", fail)
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert caught.value.code == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith(f"dync: error: {words}")
    assert stderr.count("\n") == 1
