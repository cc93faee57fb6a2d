"""Make a stack's own environment: PREFIX/stacks/STACK, a virtual environment."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from compiler.deploy.isolated import isolated
from compiler.deploy.stack_check import StackFailed, check, folder_of, form_of, lock_of
from compiler.deploy.stack_record import MadeBy, StackRecord, pinned, read_record, write_record
from compiler.stacks.lock import Lock, parse_lock, short, written
from compiler.stacks.stack import Platform, Stack

_SHOWN_LINES = 15

Tell = Callable[[str, str], None]
"""Called with the step that is under way, and with the newest line of its program or nothing."""


def _tell_nobody(_step: str, _line: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is to be made. lock: its text; empty where the pins are resolved anew."""

    stack: Stack
    form: Platform
    accelerator: str
    prefix: Path
    python: str
    lock: str
    versions: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return folder_of(self.stack, self.prefix)

    def record(self, versions: Mapping[str, str], *, whole: bool) -> StackRecord:
        return StackRecord(
            stack=self.stack.name,
            accelerator=self.accelerator,
            made_by=MadeBy.LOCK if self.lock else MadeBy.PINS,
            whole=whole,
            versions=versions,
        )


def install(  # noqa: PLR0913 -- the options of the command
    stack: Stack,
    accelerator: str,
    prefix: Path,
    python: str,
    tell: Tell = _tell_nobody,
    *,
    unlocked: bool = False,
) -> Path:
    """Make a stack's environment of its lock, each file by its hash, and write down what is in it.

    unlocked: resolve its pins anew instead. An environment that is already whole, and has the
    versions of the lock, is left as it is. One that cannot be finished is removed.
    Errors: StackFailed; packages come from the package indexes that pip is set up with.
    """
    form, folder = form_of(stack, accelerator), folder_of(stack, prefix)
    _refuse_foreign(folder)
    if _is_made(stack, accelerator, prefix, unlocked=unlocked):
        return folder
    release = _refuse_machine(stack, python)
    lock = None if unlocked else _lock_for(stack, accelerator, release)
    wanted = _Wanted(
        stack=stack,
        form=form,
        accelerator=accelerator,
        prefix=prefix,
        python=python,
        lock=stack.lock_text(accelerator, platform.machine()) if lock else "",
        versions=lock.versions(release) if lock else {},
    )
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        write_record(folder, wanted.record(wanted.versions, whole=False))
        _fill(wanted, tell)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = error.strerror or str(error)
        raise StackFailed(f"cannot write {folder}: {reason}; choose another --prefix") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _fill(wanted: _Wanted, tell: Tell) -> None:
    folder = wanted.folder
    making = isolated(wanted.python, "-m", "venv", str(folder))
    _follow(making, "make a virtual environment", tell)
    python = str(folder / "bin" / "python")
    pip = isolated(python, "-m", "pip", "--disable-pip-version-check")
    if wanted.lock:
        _install_lock(pip, wanted.lock, wanted.form, tell)
    else:
        _install_pins(pip, wanted.form, tell)
    tell("import every part", "")
    found = check(wanted.stack, wanted.accelerator, wanted.prefix)
    wrong = [item for item in found if not item.holds]
    if wrong:
        text = "; ".join(f"{item.subject}: {item.found}" for item in wrong)
        raise StackFailed(f"the packages are there but do not work: {text}")
    versions = wanted.versions
    if not wanted.lock:
        versions = pinned(_run([*pip, "-q", "freeze"], "list the packages").split("\n"))
    write_record(folder, wanted.record(versions, whole=True))


def _install_lock(pip: list[str], text: str, form: Platform, tell: Tell) -> None:
    """Install what a lock has and nothing else: no file of another hash, no build but of `sdists`.

    Those are built last, by tools that the lock has too: pip would fetch others for a build of its
    own, by no hash.
    """
    lock = parse_lock(text)
    wheels = [item for item in lock.packages if item.name not in form.sdists]
    sources = [item for item in lock.packages if item.name in form.sdists]
    for packages, how, what in (
        (wheels, ("--only-binary=:all:",), "install the locked packages"),
        (sources, ("--no-binary=:all:", "--no-build-isolation"), "build what has no wheel"),
    ):
        if not packages:
            continue
        part = replace(lock, packages=tuple(packages))
        with NamedTemporaryFile("w", prefix="dync-", suffix=".lock.txt", encoding="utf-8") as file:
            file.write(written(part, "A part of a stack's lock"))
            file.flush()
            strict = ("--require-hashes", "--no-deps", *how, "-r", file.name)
            command = [*pip, "--no-input", "install", "--progress-bar=off", *strict]
            _follow(command, what, tell)


def _install_pins(pip: list[str], form: Platform, tell: Tell) -> None:
    steps = form.install or (form.requirements,)
    for number, step in enumerate(steps, 1):
        part = f" ({number} of {len(steps)})" if len(steps) > 1 else ""
        what = f"install the pinned packages{part}"
        _follow([*pip, "--no-input", "install", "--progress-bar=off", *step], what, tell)
    if form.without:
        _follow([*pip, "-q", "uninstall", "-y", *form.without], "remove what does not fit", tell)


def _is_made(stack: Stack, accelerator: str, prefix: Path, *, unlocked: bool) -> bool:
    """Return whether an environment is whole and is what a new one would be."""
    record = read_record(folder_of(stack, prefix))
    if not record.whole or record.accelerator != accelerator:
        return False
    found = check(stack, accelerator, prefix)
    return all(item.holds and (unlocked or not item.noted) for item in found)


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and read_record(folder).made_by is MadeBy.NOBODY:
        raise StackFailed(f"{folder} was not made by dync: remove it, or choose another --prefix")


def _refuse_machine(stack: Stack, python: str) -> str:
    """Return the full version of a Python that the stack has packages for, on this machine."""
    if platform.machine() not in stack.architectures:
        wanted = ", ".join(stack.architectures)
        raise StackFailed(f"stack {stack.name} has packages for {wanted}, not {platform.machine()}")
    code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    version = _run(isolated(python, "-c", code), f"run {python}").strip()
    if short(version) not in stack.python:
        wanted = ", ".join(stack.python)
        raise StackFailed(f"{python} is Python {version}; the stack needs {wanted}: use --python")
    return version


def _lock_for(stack: Stack, accelerator: str, python: str) -> Lock:
    """Return the lock for a Python on this machine."""
    lock = lock_of(stack, accelerator)
    what = f"stack {stack.name} has no lock for {accelerator} on {platform.machine()}"
    if lock is None:
        raise StackFailed(f"{what}: --unlocked resolves its pins anew, without hashes")
    if short(python) not in lock.pythons:
        others = " or ".join(lock.pythons)
        raise StackFailed(
            f"{what} with Python {short(python)}, only with {others}: use --python; "
            "or --unlocked, which resolves its pins anew, without hashes"
        )
    return lock


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
