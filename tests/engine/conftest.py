"""One CPU stack, two models, and bundles built for them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compiler.plan import Plan
from compiler.write.plan_reader import plan_from_json
from demo.client import ask
from demo.cpu_stack import cache_folder, model, stack_prefix

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 300
Build = Callable[..., tuple[Path, Plan]]


def proved(bundle: Path, *options: str) -> tuple[bool, dict[str, Any]]:
    """Run dync verify; give whether it ended with 0, and its result."""
    command = [sys.executable, "-m", "compiler", "verify", str(bundle), "--format", "json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, flush=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode == 0, found


def messages(found: Mapping[str, Any], verdict: str) -> list[str]:
    """Return what a proof says with one verdict, with whom it says it of."""
    return [
        f"{item['subject']}: {item['message']}"
        for item in found["findings"]
        if item["verdict"] == verdict
    ]


def answers(plan: Plan, timeout_s: float = 20) -> bool:
    """Return whether a deployment completes one word."""
    try:
        ask(plan.url, plan.served_name, "Hello", max_tokens=1, timeout_s=timeout_s)
    except (OSError, ValueError):
        return False
    return True


def until(claim: Callable[[], bool], within_s: float = WITHIN_S) -> float:
    """Wait until something holds; return the seconds that took."""
    begun = time.monotonic()
    while not claim():
        assert time.monotonic() - begun < within_s, "not within time"
        time.sleep(0.5)
    return time.monotonic() - begun


@contextmanager
def alone(what: str = "engine") -> Iterator[None]:
    """Keep engine tests of parallel runs one after the other: they share ports and cores."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with open(cache_folder() / f"{what}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def packages(stack: str, folder: str, *wanted: str) -> Path:
    """Unpack packages for a stack's Python in a folder of the cache, without what they need."""
    place = cache_folder() / folder
    if not place.is_dir():
        fresh = place.with_name(f"{place.name}.{os.getpid()}")
        python = str(cache_folder() / "stacks" / stack / "bin" / "python")
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", str(fresh), *wanted], check=True)
        fresh.rename(place)
    return place


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
        subprocess.run([*command, "--overwrite", "-o", str(bundle), *options], check=True)
        plan = plan_from_json((bundle / "plan.json").read_text(encoding="utf-8"))
        return bundle, plan

    return run
