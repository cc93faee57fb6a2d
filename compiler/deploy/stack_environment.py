"""Make and check a stack's own environment: PREFIX/stacks/STACK, a virtual environment."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from compiler.stacks.stack import Platform, Stack

LOCK = "dync-stack.json"
_SHOWN_LINES = 15
_SEEN = {"python", "versions", "broken", "driver"}
_DRIVER = "libcuda.so.1"
"""What an extension needs of the host; a stack is also installed on machines without a GPU."""
_PROBE = """
import ctypes, importlib, importlib.metadata, importlib.util, json, os, sys
from importlib.machinery import PathFinder
names, modules, extensions = (json.loads(text) for text in sys.argv[1:4])
found = {"python": "%d.%d" % sys.version_info[:2], "versions": {}, "broken": {}}
try:
    ctypes.CDLL("libcuda.so.1")
    found["driver"] = True
except OSError:
    found["driver"] = False
def load(name):
    # The file itself: LMCache 0.5.3 puts a module of its own in the place of lmcache.c_ops.
    top, *folders = name.split(".")[:-1] or [""]
    if not top:
        return importlib.import_module(name)
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise ModuleNotFoundError("No module named %r" % top)
    places = [os.path.join(place, *folders) for place in spec.submodule_search_locations]
    inner = PathFinder.find_spec(name, places)
    if inner is None:
        raise ModuleNotFoundError("No module named %r" % name)
    inner.loader.exec_module(importlib.util.module_from_spec(inner))
for name in names:
    try:
        found["versions"][name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found["versions"][name] = None
for module in modules:
    try:
        importlib.import_module(module)
    except BaseException as error:
        found["broken"][module] = "%s: %s" % (type(error).__name__, str(error).split("\\n")[0])
for name in extensions:
    try:
        load(name)
    except BaseException as error:
        found["broken"][name] = "%s: %s" % (type(error).__name__, str(error).split("\\n")[0])
print("\\n" + json.dumps(found))
"""


Tell = Callable[[str, str], None]
"""Called with the step that is under way, and with the newest line of its program or nothing."""


class StackFailed(Exception):
    """An environment that could not be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class PinCheck:
    """One thing that was looked at in an environment; wanted: in words, or a version's bounds."""

    subject: str
    found: str
    wanted: str
    holds: bool = False


def folder_of(stack: Stack, prefix: Path) -> Path:
    """Return where a stack's environment lives."""
    return prefix / "stacks" / stack.name


def _tell_nobody(_step: str, _line: str) -> None:
    pass


def install(
    stack: Stack, accelerator: str, prefix: Path, python: str, tell: Tell = _tell_nobody
) -> Path:
    """Make a stack's environment with its exact pins and write a lock of what is in it.

    An environment that is already whole is left as it is. One that cannot be finished is removed.
    Errors: StackFailed; packages come from the package indexes that pip is set up with.
    """
    _form(stack, accelerator)
    folder = folder_of(stack, prefix)
    _refuse_foreign(folder)
    if _lock(folder).get("accelerator") == accelerator and _whole(stack, accelerator, prefix):
        return folder
    _refuse_machine(stack, python)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        (folder / LOCK).write_text(json.dumps({"stack": stack.name, "state": "unfinished"}))
        _fill(stack, accelerator, prefix, python, tell)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = error.strerror or str(error)
        raise StackFailed(f"cannot write {folder}: {reason}; choose another --prefix") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _fill(stack: Stack, accelerator: str, prefix: Path, python: str, tell: Tell) -> None:
    form, folder = _form(stack, accelerator), folder_of(stack, prefix)
    _follow([python, "-m", "venv", str(folder)], "make a virtual environment", tell)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    steps = form.install or (form.requirements,)
    for number, step in enumerate(steps, 1):
        part = f" ({number} of {len(steps)})" if len(steps) > 1 else ""
        what = f"install the pinned packages{part}"
        _follow([*pip, "--no-input", "install", "--progress-bar=off", *step], what, tell)
    if form.without:
        _follow([*pip, "-q", "uninstall", "-y", *form.without], "remove what does not fit", tell)
    tell("import every part", "")
    wrong = [item for item in check(stack, accelerator, prefix) if not item.holds]
    if wrong:
        text = "; ".join(f"{item.subject}: {item.found}" for item in wrong)
        raise StackFailed(f"the packages are there but do not work: {text}")
    frozen = _run([*pip, "-q", "freeze"], "list the packages")
    lock = {
        "stack": stack.name,
        "accelerator": accelerator,
        "state": "whole",
        "packages": sorted(frozen.split("\n")[:-1]),
    }
    (folder / LOCK).write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")


def check(
    stack: Stack, accelerator: str, prefix: Path, *, loads: bool = True, **identity: Any
) -> Iterator[PinCheck]:
    """Look at an environment: versions against the pins, every part and extension loaded.

    loads: false where the versions are enough, as loading takes some seconds. identity: what lets
    subprocess run it as another account.
    """
    form = _form(stack, accelerator)
    python = folder_of(stack, prefix) / "bin" / "python"
    pins = [Requirement(item) for item in form.requirements]
    if not python.exists():
        yield PinCheck(str(python), "missing", "present")
        return
    imports, extensions = (form.imports, form.extensions) if loads else ((), ())
    lists = ([pin.name for pin in pins], imports, extensions)
    command = [str(python), "-c", _PROBE, *map(json.dumps, lists)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, errors="replace", **identity
    )
    seen = _seen(done.stdout)
    if seen is None:
        yield PinCheck(str(python), f"does not run (status {done.returncode})", "runs")
        return
    if seen["python"] not in stack.python:
        yield PinCheck("python", seen["python"], " or ".join(stack.python))
    for pin in pins:
        yield _version(pin, seen["versions"][pin.name])
    for module in imports:
        yield _loaded(f"import {module}", seen["broken"].get(module))
    for extension in extensions:
        error = seen["broken"].get(extension)
        if error and _DRIVER in error and not seen["driver"]:
            yield PinCheck(f"load {extension}", "no NVIDIA driver here", "works", holds=True)
        else:
            yield _loaded(f"load {extension}", error)


def _seen(printed: str) -> dict[str, Any] | None:
    """Return what the probe found; None where something else printed the last line."""
    try:
        seen = json.loads(printed.strip().split("\n")[-1])
    except ValueError:
        return None
    return seen if isinstance(seen, dict) and seen.keys() >= _SEEN else None


def _version(pin: Requirement, found: str | None) -> PinCheck:
    """Check a version against a pin; a release's own local part, such as +cpu, is no difference."""
    exact = str(pin.specifier).removeprefix("==")
    holds = found is not None and pin.specifier.contains(found, prereleases=True)
    return PinCheck(pin.name, found or "missing", exact, holds=holds)


def _loaded(subject: str, error: str | None) -> PinCheck:
    return PinCheck(subject, error or "works", "works", holds=error is None)


def accelerator_of(stack: Stack, prefix: Path) -> str:
    """Return what an environment was made for; the stack's first form where nothing says so."""
    return str(_lock(folder_of(stack, prefix)).get("accelerator", next(iter(stack.platforms))))


def _form(stack: Stack, accelerator: str) -> Platform:
    if accelerator not in stack.platforms:
        forms = " or ".join(stack.platforms)
        raise StackFailed(f"stack {stack.name} has no form for {accelerator}, only for {forms}")
    return stack.platforms[accelerator]


def _lock(folder: Path) -> dict[str, Any]:
    try:
        lock = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return lock if isinstance(lock, dict) else {}


def _whole(stack: Stack, accelerator: str, prefix: Path) -> bool:
    return all(item.holds for item in check(stack, accelerator, prefix))


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and "stack" not in _lock(folder):
        raise StackFailed(f"{folder} was not made by dync: remove it, or choose another --prefix")


def _refuse_machine(stack: Stack, python: str) -> None:
    if platform.machine() not in stack.architectures:
        wanted = ", ".join(stack.architectures)
        raise StackFailed(f"stack {stack.name} has packages for {wanted}, not {platform.machine()}")
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = _run([python, "-c", code], f"run {python}").strip()
    if version not in stack.python:
        wanted = ", ".join(stack.python)
        raise StackFailed(f"{python} is Python {version}; the stack needs {wanted}: use --python")


def _run(command: list[str], what: str) -> str:
    """Run a short program for its output."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise StackFailed(f"cannot {what}: {error.strerror or error}") from error
    if done.returncode:
        raise StackFailed(_failed(command, what, done.returncode))
    return done.stdout or ""


def _follow(command: list[str], what: str, tell: Tell) -> None:
    """Run a long program, and hand its lines on; its last ones stand in the error."""
    tell(what, "")
    last: deque[str] = deque(maxlen=_SHOWN_LINES)
    try:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                last.append(line.rstrip())
                tell(what, last[-1])
    except OSError as error:
        raise StackFailed(f"cannot {what}: {error.strerror or error}") from error
    if running.returncode:
        said = "".join(f"\n    {line}" for line in last)
        raise StackFailed(f"{_failed(command, what, running.returncode)}{said}")


def _failed(command: list[str], what: str, status: int) -> str:
    return f"cannot {what}: {' '.join(command[:6])} … ended with {status}"
