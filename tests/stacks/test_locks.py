"""Every stack's lock: what it covers, its hashes, its form; and how locks are read and put together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from compiler.library import load_stack
from compiler.shipped_files import lock_text, stack_names
from compiler.stacks.lock import Lock, LockedPackage, differences, parse_lock, written
from compiler.stacks.stack import Platform, Stack
from tests.support import ROOT
from tools.lock_stacks import lock_path, merged

FILES = sorted((ROOT / "schemas" / "stacks").rglob("*.lock.txt"))
_ENTRY = re.compile(
    r"[a-z0-9][a-z0-9-]*==[a-z0-9.!+]+( ; [^:/@]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n"
)
_MOST_BYTES = 600_000
NOT_LOCKED = {
    # PyTorch's CPU build, on an index of its own, was at hand for Python 3.11 on x86-64 alone.
    *(("vllm-0.32", "cpu", "x86_64", python) for python in ("3.12", "3.13")),
    *(("dynamo-1.6", "cpu", "x86_64", python) for python in ("3.10", "3.12", "3.13")),
    *(("vllm-0.32", "cpu", "aarch64", python) for python in ("3.11", "3.12", "3.13")),
    *(("dynamo-1.6", "cpu", "aarch64", python) for python in ("3.10", "3.11", "3.12", "3.13")),
}


def locks() -> Iterator[tuple[Stack, str, str]]:
    """Return what may have a lock: each accelerator of a stack, on each of its machines."""
    for name in stack_names():
        stack = load_stack(name)
        for accelerator in stack.platforms:
            yield from ((stack, accelerator, machine) for machine in stack.architectures)


LOCKS = {
    f"{stack.name}-{accelerator}-{machine}": (stack.platforms[accelerator], text)
    for stack, accelerator, machine in locks()
    if (text := stack.lock_text(accelerator, machine))
}
each_lock = pytest.mark.parametrize(("form", "text"), LOCKS.values(), ids=LOCKS)


def test_every_stack_is_locked_for_its_machines_and_pythons() -> None:
    missing = {
        (stack.name, accelerator, machine, python)
        for stack, accelerator, machine in locks()
        for python in stack.python
        if python not in parse_lock(stack.lock_text(accelerator, machine)).pythons
    }
    assert missing == NOT_LOCKED


def test_every_lock_is_of_a_stack() -> None:
    known = {lock_path(stack.name, accelerator, machine) for stack, accelerator, machine in locks()}
    assert set(FILES) <= known
    assert len(FILES) == len(LOCKS)


@each_lock
def test_a_lock_is_versions_and_hashes_alone(form: Platform, text: str) -> None:
    """Nothing else: no address, no option of pip, no file or repository."""
    title, pythons, body = text.split("\n", 2)
    assert form
    assert title.startswith("# ")
    assert pythons.startswith("# Python: 3.")
    assert "".join(match[0] for match in _ENTRY.finditer(body)) == body
    assert written(parse_lock(text), title.removeprefix("# ")) == text


@each_lock
def test_a_lock_has_the_pins_of_its_stack(form: Platform, text: str) -> None:
    lock = parse_lock(text)
    for python in lock.pythons:
        locked = lock.versions(f"{python}.5")
        for pin in map(Requirement, form.requirements):
            version = locked[canonicalize_name(pin.name)]
            assert pin.specifier.contains(version, prereleases=True), (python, pin, version)
        assert not locked.keys() & set(map(canonicalize_name, form.without))


@each_lock
def test_each_python_gets_one_version_of_a_package(form: Platform, text: str) -> None:
    lock = parse_lock(text)
    assert form
    for python in chain.from_iterable((f"{item}.0", f"{item}.99") for item in lock.pythons):
        names = [item.name for item in lock.packages if item.wanted_by(python)]
        assert len(names) == len(set(names)), python
    assert all(any(item.wanted_by(f"{each}.0") for each in lock.pythons) for item in lock.packages)


def test_locks_are_small() -> None:
    """They travel in the wheel."""
    assert sum(file.stat().st_size for file in FILES) < _MOST_BYTES


@pytest.mark.parametrize(
    "line",
    [
        "numpy==2.2.6",
        "numpy>=2 --hash=sha256:aa",
        "numpy==2.* --hash=sha256:aa",
        "numpy==2.2.6 --hash=sha256:aa --index-url https://packages.example",
        "--index-url https://packages.example --hash=sha256:aa",
        "numpy @ https://packages.example/numpy.whl --hash=sha256:aa",
        "numpy[all]==2.2.6 --hash=sha256:aa",
        "-e . --hash=sha256:aa",
    ],
)
def test_what_is_no_version_with_hashes_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no requirement of one version|xpected"):
        parse_lock(f"# title\n# Python: 3.11\n{line}\n")


def test_a_marker_says_which_python_gets_a_package() -> None:
    lock = parse_lock(
        "# title\n# Python: 3.11\n"
        'async-timeout==5.0.1 ; python_full_version < "3.11.3" --hash=sha256:aa\n'
        "six==1.17.0 --hash=sha256:bb\n"
    )
    assert lock.versions("3.11.2") == {"async-timeout": "5.0.1", "six": "1.17.0"}
    assert lock.versions("3.11.9") == {"six": "1.17.0"}


def test_differences_name_both_versions_and_know_two_spellings_of_one() -> None:
    found = {"a": "2026.09.0", "b": "1.0", "c": None, "d": "1.0+cpu", "e": "x y"}
    wanted = {"a": "2026.9", "b": "1.1", "c": "3", "d": "1.0", "e": "x y"}
    assert list(differences({**found, "other": "1"}, wanted)) == [
        "b is 1.0, not 1.1",
        "c is missing, not 3",
        "d is 1.0+cpu, not 1.0",
    ]


def package(name: str, version: str, *hashes: str, marker: str = "") -> LockedPackage:
    return LockedPackage(name=name, version=version, marker=marker, hashes=hashes)


def test_the_sets_of_several_pythons_become_one() -> None:
    older, newer = package("x", "1", "0d"), package("x", "2", "0e")
    short = package("t", "5", "ff", marker='python_full_version < "3.11.3"')
    found = {
        "3.10": {"x": older, "all": package("all", "1", "10"), "t": package("t", "5", "ff")},
        "3.11": {"x": newer, "all": package("all", "1", "11"), "t": short},
        "3.12": {"x": newer, "all": package("all", "1", "11")},
    }
    lock = merged(found)
    assert parse_lock(written(lock, "title")) == lock
    for python, each in found.items():
        assert lock.versions(f"{python}.2") == {name: item.version for name, item in each.items()}
    assert lock.versions("3.11.3") == {"x": "2", "all": "1"}
    everywhere = [item for item in lock.packages if not item.marker]
    assert everywhere == [package("all", "1", "10", "11")]


def test_a_stack_without_a_lock_has_none() -> None:
    assert lock_text("vllm-0.32", "rocm", "x86_64") == ""
    assert parse_lock("") == Lock(pythons=(), packages=())
