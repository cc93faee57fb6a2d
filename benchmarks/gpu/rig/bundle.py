"""A built bundle, started by its own launch.sh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig.kit import KIT

STOP_S = 240
"""Longer than a worker and its frontend are given; what runs then is killed."""


@dataclass(slots=True)
class Launched:
    """A launched bundle; plan is plan.json as it stands, ready_s None until it served."""

    name: str
    folder: Path
    plan: dict[str, Any]
    process: subprocess.Popen[bytes]
    log: Path
    began: float
    ready_s: float | None = None

    @property
    def url(self) -> str:
        """Return the base of the API that clients use, with /v1."""
        return str(self.plan["url"])

    def metrics(self, role: str) -> str:
        """Return where the first worker of a role shows its metrics."""
        found = (item["metrics"] for item in self.plan["processes"] if item["role"] == role)
        return str(next(found))


def start(name: str, logs: Path) -> Launched:
    """Start a bundle of the kit by its launch.sh."""
    folder = KIT / "bundles" / name
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.launch.log"
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            [str(folder / "launch.sh")],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Launched(name, folder, plan, process, log, time.monotonic())


@contextmanager
def launched(
    names: Sequence[str], logs: Path, timeout_s: float, faulty: Collection[str] = ()
) -> Iterator[list[Launched]]:
    """Run bundles side by side; give those that serve, and keep the logs of all.

    faulty: those whose whole may never serve; their workers are waited for.
    """
    with ExitStack() as stack:
        bundles: list[Launched] = []
        stack.callback(_keep_logs, bundles, logs)
        stack.callback(_stop, bundles)
        for name in names:
            bundles.append(start(name, logs))
        _wait(bundles, timeout_s, faulty)
        yield [bundle for bundle in bundles if bundle.ready_s is not None]


def workers(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the workers of a plan.json."""
    return [item for item in plan["processes"] if item["kind"] == "worker"]


def _is_up(bundle: Launched, *, whole: bool) -> bool:
    said = bundle.log.read_text(errors="replace")
    names = [item["name"] for item in workers(bundle.plan)]
    awaited = [" serves at "] if whole else [f"{name} ready after " for name in names]
    return all(text in said for text in awaited)


def _wait(bundles: Sequence[Launched], timeout_s: float, faulty: Collection[str]) -> None:
    deadline = time.monotonic() + timeout_s
    waiting = list(bundles)
    while waiting and time.monotonic() < deadline:
        for bundle in list(waiting):
            if _is_up(bundle, whole=bundle.name not in faulty):
                bundle.ready_s = time.monotonic() - bundle.began
                print(f"  {bundle.name} serves after {bundle.ready_s:.1f} s", flush=True)
                waiting.remove(bundle)
            elif bundle.process.poll() is not None:
                waiting.remove(bundle)
        time.sleep(0.1)
    for bundle in bundles:
        if bundle.ready_s is None:
            text = bundle.log.read_text(errors="replace")
            print(f"  {bundle.name} DOES NOT SERVE:\n{text[-3000:]}", flush=True)


def _stop(bundles: Sequence[Launched]) -> None:
    """Ask every launch.sh to stop, wait until they have, and kill what is left."""
    began = time.monotonic()
    for bundle in bundles:
        with suppress(ProcessLookupError):
            bundle.process.send_signal(signal.SIGTERM)
    running = list(bundles)
    while running and time.monotonic() < began + STOP_S:
        time.sleep(0.1)
        for bundle in [item for item in running if item.process.poll() is not None]:
            running.remove(bundle)
            print(f"  {bundle.name} stopped after {time.monotonic() - began:.1f} s", flush=True)
    for bundle in running:
        print(f"  {bundle.name} is killed", flush=True)
        with suppress(ProcessLookupError):
            os.killpg(bundle.process.pid, signal.SIGKILL)


def _keep_logs(bundles: Sequence[Launched], logs: Path) -> None:
    for bundle in bundles:
        for log in (bundle.folder / "logs").glob("*.log"):
            (logs / f"{bundle.name}.{log.name}").write_bytes(log.read_bytes())
