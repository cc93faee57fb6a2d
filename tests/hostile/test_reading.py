"""Files, names and terminals that are not what a profile expects end in a sentence, at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import AGG, ROOT


def run(
    folder: Path, *arguments: str | bytes, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[bytes]:
    """Run dync in a process of its own, which must not wait for anybody."""
    done = subprocess.run(
        [sys.executable, "-m", "compiler", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(AGG, "utf-8")
    return tmp_path


def test_a_pipe_is_no_profile(folder: Path) -> None:
    os.mkfifo(folder / "pipe.yaml")
    (folder / "below.yaml").write_text("extends: pipe.yaml\n" + AGG, "utf-8")
    assert b"not a regular file" in run(folder, "check", "pipe.yaml").stderr
    assert b"cannot read pipe.yaml: not a regular file" in run(folder, "check", "below.yaml").stderr


@pytest.mark.parametrize("way", ["../" * 40 + "proc/self/environ", "link"])
def test_the_running_system_is_no_profile(way: str, folder: Path) -> None:
    (folder / "link").symlink_to("/proc/self/environ")
    (folder / "below.yaml").write_text(f"extends: {way}\n{AGG}", "utf-8")
    done = run(folder, "check", "below.yaml")
    assert done.returncode == 1
    assert b"not a regular file" in done.stderr
    assert b"PYTHONPATH" not in done.stderr


@pytest.mark.parametrize("kind", ["deep", "pipe", "endless", "folder", "list"])
def test_a_strange_config_of_a_model_is_as_none(kind: str, folder: Path) -> None:
    model = folder / "model"
    model.mkdir()
    config = model / "config.json"
    if kind == "pipe":
        os.mkfifo(config)
    elif kind == "folder":
        config.mkdir()
    else:
        config.write_text("[" * 100_000 if kind == "deep" else "[]", "utf-8")
        if kind == "endless":
            os.truncate(config, 1 << 36)
    (folder / "m.yaml").write_text(AGG.replace("Qwen/Qwen3-0.6B", str(model)), "utf-8")
    assert run(folder, "check", "m.yaml").returncode == 0
    assert b"nothing to say" in run(folder, "check", "m.yaml", "--explain-memory").stdout


def test_brackets_in_a_variable_are_no_mapping(folder: Path) -> None:
    deep = f"LMCACHE_EXTRA_CONFIG: '{'[' * 100_000}'"
    text = AGG.replace("gpus: [0]", f"gpus: [0], env: {{{deep}}}").replace("0.32", "0.25")
    (folder / "e.yaml").write_text(text + "lmcache: {mode: in_process}\n", "utf-8")
    assert b"is not JSON" in run(folder, "check", "e.yaml").stderr


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_any_name_and_any_terminal(encoding: str, folder: Path) -> None:
    name = b"a\xff\xe2\x80\xae\x1b[31m\xe6\xbc\xa2.yaml"
    (folder / os.fsdecode(name)).write_text(AGG, "utf-8")
    done = run(folder, "check", name, encoding=encoding)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"\xe2\x80\xae" not in done.stdout
    for command in (("build",), ("graph", "-o", "x.svg"), ("graph", "-o", "x.mmd")):
        assert run(folder, command[0], name, *command[1:], encoding=encoding).returncode == 0
    for style in ("text", "json", "sarif", "github"):
        arguments = ("check", name, "--set", "x=\u202e\x1b", "--format", style)
        done = run(folder, *arguments, encoding=encoding)
        assert done.returncode == 1
        assert not {0x1B, 0x7F} & {*done.stdout, *done.stderr}
        assert b"\xe2\x80\xae" not in done.stdout + done.stderr


def test_a_files_uri_is_one(folder: Path) -> None:
    (folder / "a b%:é.yaml").write_text("x: 1\n", "utf-8")
    log = json.loads(run(folder, "check", "a b%:é.yaml", "--format", "sarif").stdout)
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%20b%25%3A%C3%A9.yaml"


def test_a_files_name_is_no_directive(folder: Path) -> None:
    name = "%%{init: {'theme': 'dark'}}%%.yaml"
    (folder / name).write_text(AGG, "utf-8")
    assert b"%%{" not in run(folder, "graph", name, "--format", "mermaid").stdout


@pytest.mark.parametrize("out", [".", "..", "../folder/.."])
def test_the_folder_one_stands_in_is_not_replaced(out: str, folder: Path) -> None:
    inside = folder / "folder"
    inside.mkdir()
    (inside / "p.yaml").write_text(AGG, "utf-8")
    done = run(inside, "build", "p.yaml", "-o", out)
    assert done.returncode == 2
    assert b"name a folder in it, -o bundle" in done.stderr
    assert [path.name for path in inside.iterdir()] == ["p.yaml"]
