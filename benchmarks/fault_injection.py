"""Build bundles for this machine's CPU stack, and start them otherwise than launch.sh does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from compiler.plan import Plan
from compiler.write.plan_reader import plan_from_json
from demo.cpu_stack import model, stack_prefix

ROOT = Path(__file__).resolve().parents[1]


def dync(*words: str) -> tuple[int, str]:
    """Run a dync command of this checkout."""
    command = [sys.executable, "-m", "compiler", *words, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout or done.stderr


@cache
def prepared() -> Path:
    """Return the prefix of the stacks, once they are whole."""
    return stack_prefix()


def built(folder: Path, profile: str, *overrides: str, real: bool = False) -> tuple[Path, Plan]:
    """Build a ready profile for this machine's CPU stack."""
    prefix = prepared()
    weights = model(prefix, random=not real)
    given = (f"model.id={weights}", f"deploy.prefix={prefix}", *overrides)
    options = [word for override in given for word in ("--set", override)]
    source = str(ROOT / "profiles" / f"{profile}.yaml")
    command = [sys.executable, "-m", "compiler", "build", source, "-o", str(folder / profile)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    text = (folder / profile / "plan.json").read_text("utf-8")
    return folder / profile, plan_from_json(text)


@contextmanager
def by_hand(bundle: Path, plan: Plan, *, patience_s: float = 600) -> Iterator[dict[str, int]]:
    """Start each process as an operator would who has no launcher; give their pids."""
    pids: dict[str, int] = {}
    with ExitStack() as stack:
        (bundle / "logs").mkdir(exist_ok=True)
        started = {}
        for process in plan.processes:
            log = stack.enter_context(open(bundle / "logs" / f"{process.name}.log", "wb"))
            started[process.name] = subprocess.Popen(
                [str(bundle / "bin" / f"{process.name}.sh")],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            pids[process.name] = started[process.name].pid
        try:
            for process in plan.processes:
                _wait(process.ready.port, patience_s)
            yield pids
        finally:
            for child in started.values():
                _kill(child)


def _wait(port: int, patience_s: float) -> None:
    give_up = time.monotonic() + patience_s
    connect = f"exec 3<>/dev/tcp/127.0.0.1/{port}"
    while subprocess.run(
        ["bash", "-c", connect], stderr=subprocess.DEVNULL, check=False
    ).returncode:
        if time.monotonic() > give_up:
            raise RuntimeError(f"nothing listens on port {port}")
        time.sleep(0.5)


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def rewritten(path: Path, before: str, after: str) -> None:
    """Replace a text of a file that must be there."""
    text = path.read_text("utf-8")
    assert re.search(before, text), (path, before)
    path.write_text(re.sub(before, after, text, count=1), "utf-8")
