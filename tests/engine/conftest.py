"""One CPU stack, two models, and bundles built for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler.plan import Plan
from demo.workshop import model, stack_prefix

ROOT = Path(__file__).resolve().parents[2]
Build = Callable[..., tuple[Path, Plan]]


@pytest.fixture(scope="session")
def prefix() -> Path:
    return stack_prefix()


@pytest.fixture(scope="session")
def real_model(prefix: Path) -> Path:
    return model(prefix)


@pytest.fixture(scope="session")
def random_model(prefix: Path) -> Path:
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
