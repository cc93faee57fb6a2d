"""What lies in the folder one stands in is not run, whoever wrote it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.deploy.deployment import Manager
from compiler.deploy.doctor import stack as stack_checks
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.installation import system_host
from compiler.deploy.stack_check import check, folder_of
from compiler.deploy.stack_environment import install
from compiler.library import load_stack
from compiler.stacks.stack import Stack
from tests.made_packages import wheel
from tests.stand_in_stack import fill_site, pinned, write_program
from tests.support import AGG, ROOT, plan_of

MODULES = ("json", "ctypes", "importlib", "venv", "ensurepip", "pip", "vllm", "lmcache", "engine")
SINGLE = ("sitecustomize", "usercustomize", "subprocess", "tempfile", "hashlib", "ssl", "_ssl")
STARTS_PYTHON = ("compiler", "demo", "benchmarks/gpu/packing")


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder of modules that leave a trace; none has left one at the end."""
    folder = tmp_path / "planted"
    folder.mkdir()
    trap = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + '\\n')\n"
    for name in MODULES:
        (folder / name).mkdir()
        for file in ("__init__.py", "__main__.py"):
            (folder / name / file).write_text(trap)
    for name in SINGLE:
        (folder / f"{name}.py").write_text(trap)
    monkeypatch.chdir(folder)
    plain = subprocess.run([sys.executable, "-c", "import ctypes"], check=False)
    assert plain.returncode == 0
    assert (tmp_path / "ran").read_text() == "ctypes\n"  # a trap that works
    (tmp_path / "ran").unlink()
    yield folder
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


def stand_in(folder: Path) -> tuple[Stack, Path]:
    """Return a stack that is whole, and its Python."""
    stack = load_stack("vllm-0.32")
    program = folder_of(stack, folder) / "bin" / "python"
    fill_site(folder / "site", pinned(stack, "cpu"), stack.platforms["cpu"].imports)
    write_program(program, folder / "site")
    return stack, program


def test_stack_check_runs_none(planted: Path) -> None:
    stack, _ = stand_in(planted.parent)
    stack = replace(stack, python=(f"{sys.version_info[0]}.{sys.version_info[1]}",))
    found = {item.subject: item for item in check(stack, "cpu", planted.parent)}
    assert found["lmcache"].holds
    assert found["import lmcache"].holds


def test_stack_install_runs_none(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = planted.parent / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    digest = wheel(index, "engine", "1.4", {"engine.py": ""})
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    shipped = load_stack("vllm-0.32")
    form = replace(
        shipped.platforms["cpu"], requirements=("engine==1.4",), imports=("engine",), without=()
    )
    text = f"# of a test\n# Python: {here}\nengine==1.4 \\\n    --hash=sha256:{digest}\n"
    stack = replace(
        shipped, platforms={"cpu": form}, python=(here,), lock_text=lambda _accelerator, _: text
    )
    for unlocked in (False, True):
        folder = install(stack, "cpu", planted.parent, sys.executable, unlocked=unlocked)
        assert list(folder.glob("lib/python*/site-packages/engine.py"))


def test_doctor_runs_none(planted: Path) -> None:
    stack, _ = stand_in(planted.parent)
    subject = Subject(
        plan=plan_of(AGG, f"deploy.prefix={planted.parent}"),
        stack=stack,
        folder=planted,
        host=system_host(Path("/")),
        manager=Manager.LAUNCHER,
        files={},
    )
    assert list(stack_checks.check_program(subject)) == []  # it runs
    found = {item.subject: item for item in stack_checks.check_parts(subject)}
    assert found["vllm"].message.startswith("missing")  # of cuda, and so it was asked


def test_whatever_starts_a_python_isolates_it() -> None:
    """A Python that is given -c or -m takes modules of the folder it is started in, but with -I."""
    wrong = []
    for path in sorted(path for top in STARTS_PYTHON for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            words = _words(node)
            at = next((number for number, word in enumerate(words) if word in ("-c", "-m")), None)
            if at is None or "bash" in words[:at] or "-I" in words[:at] or _is_isolated(node):
                continue
            wrong.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    # The demo runs this checkout, which lies where it is run.
    assert [place.partition(":")[0] for place in wrong] == ["demo/cpu_stack.py"]


def _words(node: ast.AST) -> list[object]:
    items = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
    return [item.value if isinstance(item, ast.Constant) else None for item in items]


def _is_isolated(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "isolated"
