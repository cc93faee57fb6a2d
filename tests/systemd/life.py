"""A deployment `life` on a machine with systemd; small servers stand in for its engines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.plan import Plan
from compiler.write.bundle import write
from tests.support import ROOT, plan_of
from tests.systemd.machine import Machine

DYNC = (sys.executable, "-m", "compiler")
PROFILE = """\
name: life
stack: vllm-0.32
topology: agg
accelerator: cpu
model: {id: a/b}
lmcache: {chunk_size: 128, cpu_cache_gb: 0.5}
workers:
  - {role: aggregated}
  - {role: aggregated}
deploy: {ready_timeout_s: 20, drain_s: 0}
"""
NAMES = ("lmcache", "aggregated-0", "aggregated-1", "router")
# Seconds of waiting before a restart would make the tests slow.
FAST = "[Service]\nRestartSec=0.1\n"


class Life:
    """The deployment `life` of one machine."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.folder = machine, folder

    def build(self, *overrides: str, text: str = PROFILE) -> Plan:
        first = (f"deploy.prefix={self.folder}/prefix", "deploy.first_port=23100")
        weights = f"model.id={self.folder}/model"
        plan = plan_of(text, *first, weights, "frontend.port=23000", *overrides)
        write(emit(plan, templates()), self.folder / "bundle")
        return plan

    def dync(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.machine.try_run(*DYNC, *words, PYTHONPATH=str(ROOT))

    def try_install(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Install without a proof: the processes here are no engines."""
        return self.dync("install", str(self.folder / "bundle"), "--no-verify", *words)

    def install(self, *words: str) -> str:
        done = self.try_install(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def show(self, unit: str, key: str) -> str:
        return self.machine.run(
            "systemctl", "show", "-p", key, "--value", f"dync-life{unit}"
        ).strip()

    def pids(self) -> dict[str, str]:
        units = [f"dync-life-{name}.service" for name in NAMES]
        out = self.machine.run("systemctl", "show", "-p", "MainPID", "--value", *units)
        return dict(zip(NAMES, out.split(), strict=True))

    def restarted_by(self, action: Callable[[], object]) -> set[str]:
        before = self.pids()
        action()
        after = self.pids()
        assert "0" not in after.values()
        return {name for name in NAMES if after[name] != before[name]}

    def generation(self) -> str:
        return self.machine.run("readlink", "/etc/dync/life/current").strip()
