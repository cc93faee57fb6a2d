"""Lock the environments of stacks: every package, with the hash of each wheel that fits.

python tools/lock_stacks.py [STACK...]           # default: all
python tools/lock_stacks.py --check [STACK...]   # says what would change, writes nothing; 1 if so

For each accelerator of a stack and each machine that it has packages for, what its `install` (or its
`requirements`) asks for is resolved for each of its Pythons, by uv and from wheels alone, and written
to schemas/stacks/<stack>/<accelerator>-<machine>.lock.txt. A version that is locked already stays while
it fits: --upgrade takes the newest of all. --like FILE prefers the versions of a `pip freeze`, such as
those of an environment that was tried. A package that has no wheel at all stands in `sdists` of the
stack, with the reason.

Packages come from the indexes that uv is set up with, which the lock does not name. PyTorch's CPU build
is not on PyPI: UV_INDEX=https://download.pytorch.org/whl/cpu, or UV_FIND_LINKS=FOLDER with its wheels. A
Python for which a wheel is missing is not locked; the tool says so, and fails if it was before.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.markers import Marker
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.library import library  # noqa: E402 -- the checkout, wherever this is run from
from compiler.stacks.lock import Lock, LockedPackage, parse_lock, written  # noqa: E402
from compiler.stacks.stack import Stack  # noqa: E402

GLIBC = "manylinux_2_34"
"""The oldest C library that must do: that of RHEL 9; Ubuntu 22.04 and Debian 12 have newer ones."""
Resolved = dict[str, LockedPackage]


class Unresolved(Exception):
    """No set of wheels; the text is uv's."""


def main(words: Sequence[str]) -> int:
    """Lock the named stacks, or all, and say what changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stacks", nargs="*", metavar="STACK")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    parser.add_argument("--like", metavar="FILE", type=Path)
    asked = parser.parse_args(words)
    like = _frozen(asked.like.read_text("utf-8")) if asked.like else {}
    status = 0
    for name in asked.stacks or library().stack_names:
        stack = library().load_stack(name)
        for accelerator in stack.platforms:
            for machine in stack.architectures:
                status |= _lock(stack, accelerator, machine, like, asked)
    return status


def lock_path(stack: str, accelerator: str, machine: str) -> Path:
    """Return where a lock lies."""
    return ROOT / "schemas" / "stacks" / stack / f"{accelerator}-{machine}.lock.txt"


def _frozen(text: str) -> dict[str, str]:
    pairs = (line.split("==") for line in text.split("\n") if "==" in line)
    return {canonicalize_name(name): version for name, version in pairs}


def _lock(
    stack: Stack, accelerator: str, machine: str, like: Mapping[str, str], asked: argparse.Namespace
) -> int:
    """Make one lock, and say what is new in it; 1 where it is not as it should be."""
    path = lock_path(stack.name, accelerator, machine)
    before = parse_lock(path.read_text("utf-8")) if path.exists() else None
    title = f"{stack.name} for {accelerator} on {machine}"
    found: dict[str, Resolved] = {}
    earlier = dict(like)
    for python in stack.python:
        known = before.versions(f"{python}.99") if before and not asked.upgrade else {}
        try:
            found[python] = resolve(stack, accelerator, machine, python, {**earlier, **known})
        except Unresolved as error:
            print(f"{title}: not locked for Python {python}\n{error}", file=sys.stderr)
            continue
        earlier |= {name: item.version for name, item in found[python].items()}
    if not found and before is None:
        return 0
    if set(before.pythons if before else ()) - set(found):
        print(f"{title}: left as it is", file=sys.stderr)
        return 1
    text = written(merged(found), f"Made by tools/lock_stacks.py: stack {title}")
    changes = list(_changes(before, parse_lock(text)))
    if not asked.check:
        path.write_text(text, "utf-8")
    packages = len(parse_lock(text).packages)
    print(f"{title}: {packages} packages, Python {' '.join(found)}; {len(changes)} changes")
    print("".join(f"  {line}\n" for line in changes), end="")
    return 1 if asked.check and changes else 0


def resolve(
    stack: Stack, accelerator: str, machine: str, python: str, prefer: Mapping[str, str]
) -> Resolved:
    """Resolve a stack's steps one after another, as pip would take them, for one Python.

    Errors: Unresolved.
    """
    form = stack.platforms[accelerator]
    found: Resolved = {}
    for step in form.install or (form.requirements,):
        known = {**prefer, **{name: item.version for name, item in found.items()}}
        for entry in _step(step, machine, python, known, wheels_alone=not form.sdists):
            found |= {item.name: item for item in _package(entry, machine, python, form.sdists)}
    without = set(map(canonicalize_name, form.without))
    return {name: item for name, item in found.items() if name not in without}


def _step(
    step: Sequence[str],
    machine: str,
    python: str,
    prefer: Mapping[str, str],
    *,
    wheels_alone: bool,
) -> list[dict[str, Any]]:
    """Return what uv finds for one step, as entries of a pylock.toml."""
    import tomllib  # noqa: PLC0415 -- Python 3.11

    with TemporaryDirectory() as folder:
        wanted, lock = Path(folder) / "wanted.in", Path(folder) / "pylock.toml"
        wanted.write_text("".join(f"{word}\n" for word in step if not word.startswith("-")))
        if prefer:
            lock.write_text(_preferred(prefer))
        options = [word for word in step if word.startswith("-")]
        done = subprocess.run(
            [
                *(_uv(), "pip", "compile", "--no-config", "--quiet"),
                *(("--only-binary=:all:",) if wheels_alone else ()),
                *("--python-version", python, "--python-platform", f"{machine}-{GLIBC}"),
                *("--format=pylock.toml", "--output-file", str(lock), *options, str(wanted)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unresolved(done.stderr.strip())
        found: list[dict[str, Any]] = tomllib.loads(lock.read_text("utf-8")).get("packages", [])
    return found


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        sys.exit("uv is missing: pip install -e '.[dev]'")
    return found


def _preferred(versions: Mapping[str, str]) -> str:
    """Write a lock of an earlier time, whose versions uv keeps where they fit."""
    entries = (f'[[packages]]\nname = "{key}"\nversion = "{versions[key]}"\n' for key in versions)
    return 'lock-version = "1.0"\ncreated-by = "dync"\n' + "".join(entries)


def _package(
    entry: Mapping[str, Any], machine: str, python: str, sdists: Mapping[str, str]
) -> Iterator[LockedPackage]:
    """Return an entry of uv's, unless its marker holds for no release of this Python.

    Errors: Unresolved where it has no wheel, and is none of those that the stack has as sources.
    """
    name, marker = canonicalize_name(entry["name"]), entry.get("marker", "")
    holds = [_holds(marker, machine, f"{python}.{patch}") for patch in (0, 99)]
    files = [entry["sdist"]] if name in sdists else entry.get("wheels", ())
    if not files:
        raise Unresolved(f"{name} {entry['version']} has no wheel, and `sdists` has no such package")
    if any(holds):
        yield LockedPackage(
            name=name,
            version=entry["version"],
            marker="" if all(holds) else str(Marker(marker)),
            hashes=tuple(file["hashes"]["sha256"] for file in files),
        )


def _holds(marker: str, machine: str, python: str) -> bool:
    probe = LockedPackage(name="", version="", marker=marker, hashes=())
    return probe.wanted_by(python, machine)


def merged(found: Mapping[str, Resolved]) -> Lock:
    """Put the sets of several Pythons together; what not all have alike gets a marker."""
    versions = sorted({(item.name, item.version) for each in found.values() for item in each.values()})
    return Lock(
        pythons=tuple(found),
        packages=tuple(_merged(name, version, found) for name, version in versions),
    )


def _merged(name: str, version: str, found: Mapping[str, Resolved]) -> LockedPackage:
    having = {
        python: each[name]
        for python, each in found.items()
        if name in each and each[name].version == version
    }
    everywhere = len(having) == len(found) and not any(item.marker for item in having.values())
    clauses = (
        f'python_version == "{python}"' + (f" and ({item.marker})" if item.marker else "")
        for python, item in having.items()
    )
    hashes = {text for item in having.values() for text in item.hashes}
    return LockedPackage(
        name=name,
        version=version,
        marker="" if everywhere else str(Marker(" or ".join(clauses))),
        hashes=tuple(sorted(hashes)),
    )


def _changes(before: Lock | None, now: Lock) -> Iterator[str]:
    """Say what differs between two locks, package by package."""
    if before is None or before.pythons != now.pythons:
        yield f"for Python {' '.join(now.pythons)}"
    old, new = _by_name(before), _by_name(now)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        versions = [", ".join(item.version for item in side.get(name, ())) for side in (old, new)]
        before_it, now_it = versions[0] or "new", versions[1] or "gone"
        same = before_it == now_it
        yield f"{name}: {'other hashes or markers' if same else f'{before_it} -> {now_it}'}"


def _by_name(lock: Lock | None) -> dict[str, list[LockedPackage]]:
    packages: dict[str, list[LockedPackage]] = {}
    for item in lock.packages if lock else ():
        packages.setdefault(item.name, []).append(item)
    return packages


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
