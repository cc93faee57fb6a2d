"""One CPU stack, two models, and bundles built for them."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compiler.plan import Plan
from demo.workshop import cache_folder, model, stack_prefix

ROOT = Path(__file__).resolve().parents[2]
Build = Callable[..., tuple[Path, Plan]]


@contextmanager
def alone(what: str = "engine") -> Iterator[None]:
    """Keep engine tests of parallel runs one after the other: they share ports and cores."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with open(cache_folder() / f"{what}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def one_at_a_time(prefix: Path) -> Iterator[None]:
    assert prefix.is_dir()
    with alone():
        yield


@pytest.fixture(scope="session")
def prefix() -> Path:
    with alone("install"):
        return stack_prefix()


@pytest.fixture(scope="session")
def dynamo_prefix() -> Path:
    with alone("install"):
        return stack_prefix("dynamo-1.6")


@pytest.fixture(scope="session")
def real_model(prefix: Path) -> Path:
    with alone("install"):
        return model(prefix)


@pytest.fixture(scope="session")
def random_model(prefix: Path) -> Path:
    with alone("install"):
        return model(prefix, random=True)


@pytest.fixture
def build(prefix: Path, tmp_path: Path) -> Build:
    """Build a profile of profiles/ for the CPU stack; keywords are --set overrides."""

    def run(profile: str, weights: Path, *overrides: str) -> tuple[Path, Plan]:
        bundle = tmp_path / profile
        given = (f"model.id={weights}", f"deploy.prefix={prefix}", *overrides)
        options = [word for override in given for word in ("--set", override)]
        command = [sys.executable, "-m", "compiler", "build"]
        command.append(str(ROOT / "profiles" / f"{profile}.yaml"))
        subprocess.run([*command, "-o", str(bundle), *options], check=True)
        plan = Plan.from_json((bundle / "plan.json").read_text(encoding="utf-8"))
        return bundle, plan

    return run
