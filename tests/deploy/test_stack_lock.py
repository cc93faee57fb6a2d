"""An environment is made of the files that its lock has hashes of: real pip, wheels made here."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from compiler.deploy.stack_check import StackFailed, check, folder_of
from compiler.deploy.stack_environment import install
from compiler.deploy.stack_record import RECORD
from compiler.library import load_stack
from compiler.stacks.stack import Stack

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str], needs: str = "") -> str:
    """Make a wheel; return its hash."""
    info = f"{name}-{version}.dist-info"
    texts = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*texts, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with ZipFile(path, "w") as file:
        for place, text in {**texts, f"{info}/RECORD": record}.items():
            file.writestr(place, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


_BACKEND = """
import pathlib, zipfile
import tool

def build_wheel(folder, config_settings=None, metadata_directory=None):
    pathlib.Path({trap!r}).touch()
    name, info = "engine-1.4-py3-none-any.whl", "engine-1.4.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as file:
        file.writestr("engine.py", "")
        file.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: engine\\nVersion: 1.4\\n")
        file.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        file.writestr(info + "/RECORD", "engine.py,,\\n" + info + "/RECORD,,\\n")
    return name
"""


def source(folder: Path, trap: Path) -> str:
    """Make a source distribution of `engine`, whose build takes `tool` and leaves a trace."""
    path = folder / "engine-1.4.tar.gz"
    texts = {
        "pyproject.toml": '[build-system]\nrequires = ["tool"]\nbuild-backend = "backend"\n'
        'backend-path = ["."]\n',
        "backend.py": _BACKEND.format(trap=str(trap)),
        "PKG-INFO": "Metadata-Version: 2.1\nName: engine\nVersion: 1.4\n",
    }
    with tarfile.open(path, "w:gz") as file:
        for place, text in texts.items():
            entry = tarfile.TarInfo(f"engine-1.4/{place}")
            entry.size = len(text)
            file.addfile(entry, BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the one folder that pip takes packages from."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def stack_of(**hashes: str) -> Stack:
    """Return a stack of the package `engine`, whose lock has packages of version 1.4."""
    shipped = load_stack("vllm-0.32")
    form = replace(
        shipped.platforms["cpu"],
        requirements=("engine==1.4",),
        imports=("engine",),
        install=(),
        without=(),
    )
    entries = (f"{name}==1.4 \\\n    --hash=sha256:{item}\n" for name, item in hashes.items())
    text = f"# of a test\n# Python: {HERE}\n" + "".join(entries)
    return replace(
        shipped,
        platforms={"cpu": form},
        python=(HERE,),
        lock_text=lambda _accelerator, _machine: text,
    )


def test_what_the_lock_names_is_installed_and_nothing_else(index: Path, tmp_path: Path) -> None:
    stack = stack_of(engine=wheel(index, "engine", "1.4", {"engine.py": ""}, needs="other"))
    wheel(index, "other", "1.4", {"other.py": ""})
    wheel(index, "engine", "1.5", {"engine.py": ""})
    folder = install(stack, "cpu", tmp_path, sys.executable)
    found = {item.subject: item for item in check(stack, "cpu", tmp_path)}
    assert all(item.holds and not item.noted for item in found.values())
    assert found["lock"].found == "every file by its hash"
    assert found["packages"].found == "1 as installed"
    assert not list(folder.glob("lib/python*/site-packages/other.py"))
    record = json.loads((folder / RECORD).read_text())
    assert (record["made_by"], record["packages"]) == ("lock", ["engine==1.4"])


def test_a_file_of_another_hash_is_refused_and_nothing_stays(index: Path, tmp_path: Path) -> None:
    good = wheel(index, "engine", "1.4", {"engine.py": ""})
    other = wheel(index, "other", "1.4", {"other.py": ""})
    tampered = wheel(index, "engine", "1.4", {"engine.py": "import os"})
    stack = stack_of(engine=good, other=other)
    with pytest.raises(StackFailed) as failure:
        install(stack, "cpu", tmp_path, sys.executable)
    said = str(failure.value)
    assert "cannot install the locked packages" in said
    assert "DO NOT MATCH THE HASHES" in said
    assert "engine==1.4" in said
    assert good in said
    assert tampered in said
    assert not folder_of(stack, tmp_path).exists()


def test_a_source_is_built_only_where_the_stack_says_why(index: Path, tmp_path: Path) -> None:
    """And by the tools of the lock: another release of them lies in the index, and is not taken."""
    trap = tmp_path / "built"
    tool = wheel(index, "tool", "1.4", {"tool.py": ""})
    wheel(index, "tool", "1.5", {"tool.py": "raise SystemExit(1)"})
    stack = stack_of(engine=source(index, trap), tool=tool)
    with pytest.raises(StackFailed, match="No matching distribution found for engine==1.4"):
        install(stack, "cpu", tmp_path, sys.executable)
    assert not trap.exists()
    assert not folder_of(stack, tmp_path).exists()
    form = replace(stack.platforms["cpu"], sdists={"engine": "it was released so"})
    install(replace(stack, platforms={"cpu": form}), "cpu", tmp_path, sys.executable)
    assert trap.exists()
    assert all(item.holds and not item.noted for item in check(stack, "cpu", tmp_path))
