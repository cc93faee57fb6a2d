"""dync verify, status and logs, on deployments that no engine is needed for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compiler.cli.main import dync

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> Result:
    result = CliRunner().invoke(dync, words)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Build a deployment on ports that nothing else has."""
    place = tmp_path / "agg-cpu"
    profile = str(ROOT / "profiles" / "agg-cpu.yaml")
    words = ("build", profile, "-o", str(place), "--set", "frontend.port=7")
    assert run(*words).exit_code == 0
    return place


HOLDER = """
import fcntl, os, sys
with open("run/lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print(os.getpid(), file=lock, flush=True)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def launched(bundle: Path) -> Iterator[Path]:
    """Hold what launch.sh holds while it runs."""
    (bundle / "run").mkdir()
    (bundle / "logs").mkdir()
    for name in ("lmcache", "aggregated-0"):
        (bundle / "logs" / f"{name}.log").write_text(f"{name} begins\n{name} goes on\n")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(bundle / "launch.sh")],
        cwd=bundle,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield bundle
        holder.kill()


def test_what_does_not_run_is_not_proved(bundle: Path) -> None:
    done = run("verify", str(bundle))
    assert done.exit_code == 1
    assert "nothing listens on its port 7" in done.stdout
    assert f"dync logs {bundle} aggregated-0" in done.stdout
    assert "not proved" in done.stdout
    found = json.loads(run("verify", str(bundle), "--format", "json").stdout)
    assert not found["proved"]
    assert found["started_by"] == "nobody"
    assert found["time_to_first_token"] == []
    assert {"name": "aggregated-0", "verdict": "fail"} in found["processes"]


def test_a_log_is_scanned_even_where_nothing_runs_any_more(launched: Path) -> None:
    log = launched / "logs" / "aggregated-0.log"
    log.write_text("System will operate in degraded mode (recompute).\n")
    done = run("verify", str(launched))
    assert "started by launch.sh" in done.stdout
    assert "degraded mode" in done.stdout


def test_a_changed_bundle_is_said(launched: Path) -> None:
    with open(launched / "engine" / "aggregated-0.yaml", "a", encoding="utf-8") as file:
        file.write("# by hand\n")
    assert (
        "changed since dync wrote it: engine/aggregated-0.yaml"
        in run("verify", str(launched)).stdout
    )


def test_status_of_what_does_not_run(bundle: Path) -> None:
    done = run("status", str(bundle))
    assert done.exit_code == 1
    assert done.stdout.count("not ready (") == 2
    assert "not ready (not running)" in done.stdout
    found = json.loads(run("status", str(bundle), "--format", "json").stdout)
    assert not found["ready"]
    assert found["processes"][0] | {"state": "", "kind": "", "pid": 0} == {
        "name": "lmcache", "kind": "", "state": "", "ready": False, "pid": 0,
        "uptime_s": None, "restarts": None, "requests": None, "busy": None,
        "engine_cache": None, "lmcache": None, "fills": [], "nixl": None,
    }  # fmt: skip
    assert run("status", str(bundle), "--watch", "--format", "json").exit_code == 2


def test_watching_ends_with_ctrl_c(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    done = run("status", str(bundle), "--watch", "--every", "3")
    assert waited == [3.0, 3.0]
    assert done.exit_code == 1
    assert "not ready (not running)" in done.stdout


def shown(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that becomes another program."""
    return subprocess.run(
        [sys.executable, "-m", "compiler", *words], capture_output=True, text=True, check=False
    )


def test_logs_of_a_launched_bundle(launched: Path) -> None:
    assert shown("logs", str(launched), "lmcache").stdout == "lmcache begins\nlmcache goes on\n"
    last = shown("logs", str(launched), "-n", "1").stdout
    assert "aggregated-0 goes on" in last
    assert "begins" not in last
    wrong = run("logs", str(launched), "lmcach")
    assert wrong.exit_code == 2
    assert "did you mean lmcache?" in wrong.output


def test_logs_that_are_not_there(bundle: Path) -> None:
    done = run("logs", str(bundle))
    assert done.exit_code == 1
    assert "has no log of it" in done.output


@pytest.mark.parametrize("command", ["verify", "status", "logs"])
def test_what_is_no_deployment(command: str, tmp_path: Path) -> None:
    done = run(command, str(tmp_path))
    assert done.exit_code == 1
    assert "neither a bundle nor installed here" in done.output
