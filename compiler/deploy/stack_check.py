"""Look at a stack's environment: versions against pins and lock, every part loaded."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from compiler.deploy.isolated import isolated
from compiler.deploy.stack_record import MadeBy, StackRecord, read_record
from compiler.stacks.lock import Lock, differences, parse_lock, short
from compiler.stacks.stack import Platform, Stack

_SEEN = {"python", "versions", "broken", "driver"}
_DRIVER = "libcuda.so.1"
"""What an extension needs of the host; a stack is also installed on machines without a GPU."""
_SHOWN_DIFFERENCES = 5
_PROBE = """
import ctypes, importlib, importlib.metadata, importlib.util, json, os, sys
from importlib.machinery import PathFinder
names, modules, extensions = (json.loads(text) for text in sys.argv[1:4])
found = {"python": "%d.%d.%d" % sys.version_info[:3], "versions": {}, "broken": {}}
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


class StackFailed(Exception):
    """An environment that could not be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class PinCheck:
    """One thing that was looked at in an environment.

    wanted: in words, or a version's bounds. noted: it works, and is not what a new one would be.
    """

    subject: str
    found: str
    wanted: str
    holds: bool = False
    noted: bool = False


def folder_of(stack: Stack, prefix: Path) -> Path:
    """Return where a stack's environment lives."""
    return prefix / "stacks" / stack.name


def form_of(stack: Stack, accelerator: str) -> Platform:
    """Return a stack's form for an accelerator.

    Errors: StackFailed where it has none.
    """
    if accelerator not in stack.platforms:
        forms = " or ".join(stack.platforms)
        raise StackFailed(f"stack {stack.name} has no form for {accelerator}, only for {forms}")
    return stack.platforms[accelerator]


def lock_of(stack: Stack, accelerator: str) -> Lock | None:
    """Return a stack's lock for this machine; None where it has none."""
    text = stack.lock_text(accelerator, platform.machine())
    return parse_lock(text) if text else None


def accelerator_of(stack: Stack, prefix: Path) -> str:
    """Return what an environment was made for; the stack's first form where nothing says so."""
    return read_record(folder_of(stack, prefix)).accelerator or next(iter(stack.platforms))


def check(
    stack: Stack, accelerator: str, prefix: Path, *, loads: bool = True, **identity: Any
) -> Iterator[PinCheck]:
    """Look at an environment: versions against the pins and the lock, every part loaded.

    loads: false where the versions are enough, as loading takes some seconds. identity: what lets
    subprocess run it as another account.
    """
    form, folder = form_of(stack, accelerator), folder_of(stack, prefix)
    python, record = folder / "bin" / "python", read_record(folder)
    pins = [Requirement(item) for item in form.requirements]
    if not python.exists():
        yield PinCheck(str(python), "missing", "present")
        return
    lock = lock_of(stack, accelerator)
    names = {pin.name for pin in pins} | record.versions.keys() | _names(lock)
    imports, extensions = (form.imports, form.extensions) if loads else ((), ())
    lists = (sorted(names), imports, extensions)
    command = isolated(str(python), "-c", _PROBE, *map(json.dumps, lists))
    # In a folder of root's: what is loaded may run programs of its own.
    options = {"cwd": "/", **identity}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, errors="replace", **options
    )
    seen = _seen(done.stdout)
    if seen is None:
        yield PinCheck(str(python), f"does not run (status {done.returncode})", "runs")
        return
    if short(seen["python"]) not in stack.python:
        yield PinCheck("python", short(seen["python"]), " or ".join(stack.python))
    for pin in pins:
        yield _version(pin, seen["versions"].get(pin.name))
    versions: dict[str, str | None] = {
        canonicalize_name(name): item for name, item in seen["versions"].items()
    }
    yield from _kept(record, versions)
    yield _locked(record, lock, seen["python"], versions)
    yield from _parts(imports, extensions, seen)


def _names(lock: Lock | None) -> set[str]:
    return {item.name for item in lock.packages} if lock else set()


def _parts(
    imports: tuple[str, ...], extensions: tuple[str, ...], seen: Mapping[str, Any]
) -> Iterator[PinCheck]:
    for module in imports:
        yield _loaded(f"import {module}", seen["broken"].get(module))
    for extension in extensions:
        error = seen["broken"].get(extension)
        if error and _DRIVER in error and not seen["driver"]:
            yield PinCheck(f"load {extension}", "no NVIDIA driver here", "works", holds=True)
        else:
            yield _loaded(f"load {extension}", error)


def _kept(record: StackRecord, seen: Mapping[str, str | None]) -> Iterator[PinCheck]:
    """Compare the packages with those that were installed; what came in addition does no harm."""
    changed = list(differences(seen, record.versions))
    wanted = "as installed"
    if changed:
        yield PinCheck("packages", _some(changed), wanted)
    elif record.versions:
        yield PinCheck("packages", f"{len(record.versions)} as installed", wanted, holds=True)


def _locked(
    record: StackRecord, lock: Lock | None, python: str, seen: Mapping[str, str | None]
) -> PinCheck:
    """Say how what was installed stands to this release's lock; either way it may work."""
    if record.made_by is MadeBy.NOBODY:
        return PinCheck("lock", "not made by `dync stack install`", "", holds=True)
    if lock is None or short(python) not in lock.pythons:
        others: list[str] = []
        state = "there is none for this machine and its Python"
    else:
        others = list(differences({**seen, **record.versions}, lock.versions(python)))
        state = _some(others) or "the same versions"
    text, noted = {
        MadeBy.LOCK: (f"another than this release's: {state}", bool(others)),
        MadeBy.PINS: (f"not used (--unlocked): {state}", True),
        MadeBy.OLDER: (f"installed before there were locks: {state}", bool(others)),
    }[record.made_by]
    if record.made_by is MadeBy.LOCK and not others:
        text = "every file by its hash"
    return PinCheck("lock", text, "", holds=True, noted=noted)


def _some(texts: list[str]) -> str:
    more = len(texts) - _SHOWN_DIFFERENCES
    return "; ".join(texts[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


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
