"""What processes load from the folders that their PYTHONPATH names."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from compiler.process import Kind
from tests.support import compile_text

LIB = Path(__file__).parents[1] / "templates" / "lib"
START, EVENTS = LIB / "start", LIB / "events"
# As a Dynamo worker: something makes a finalizer before multiprocessing is there, and only a
# finalizer ends the engine.
WORKER = """
import weakref

class Owner:
    pass

first = Owner()
weakref.finalize(first, int)

import multiprocessing
import time

if __name__ == "__main__":
    engine = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    engine.start()
    client = Owner()
    weakref.finalize(client, engine.terminate)
    print("end", flush=True)
"""


def ends(tmp_path: Path, **environment: str) -> bool:
    """Return whether the worker ends by itself, and end it otherwise."""
    program = tmp_path / "worker.py"
    program.write_text(WORKER, "utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program)],
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"end\n"
    try:
        process.wait(timeout=20 if environment else 3)
    except subprocess.TimeoutExpired:
        return False
    finally:
        process.stdout.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return True


def test_a_worker_ends_whose_engine_a_finalizer_ends(tmp_path: Path) -> None:
    assert not ends(tmp_path)
    assert ends(tmp_path, PYTHONPATH=str(START))


@pytest.mark.parametrize(
    ("module", "broker", "said"),
    [
        (
            "dynamo.frontend",
            "xsub=ipc://in,xpub=ipc://out",
            "events of workers cannot be handed on",
        ),
        ("dynamo.frontend", "", "runs"),
        ("dynamo.helper", "xsub=ipc://in,xpub=ipc://out", "runs"),
    ],
)
def test_a_frontend_that_cannot_hand_events_on_does_not_run(
    tmp_path: Path, module: str, broker: str, said: str
) -> None:
    """This Python has no zmq; a process that a frontend starts is no frontend."""
    assert importlib.util.find_spec("zmq") is None
    program = tmp_path / f"{module.replace('.', '/')}.py"
    program.parent.mkdir()
    program.write_text("print('runs')\n", "utf-8")
    named = {"DYN_ZMQ_BROKER_URL": broker} if broker else {}
    done = subprocess.run(
        [sys.executable, "-m", module],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{EVENTS}:{tmp_path}", **named},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in done.stdout + done.stderr
    assert (done.returncode == 0) == (said == "runs") == ("runs" in done.stdout)


def test_only_a_process_that_needs_them_has_modules() -> None:
    profile = """
name: one
stack: {stack}
topology: agg
model: {{id: Qwen/Qwen3-0.6B}}
lmcache: {{mode: {mode}}}
workers: [{{role: aggregated, gpus: [0]}}]
"""
    publishing = {"dynamo-1.0", "dynamo-1.3", "dynamo-1.6"}
    for stack in ("dynamo-0.7", "dynamo-1.0", "dynamo-1.3", "dynamo-1.6", "vllm-0.32"):
        needs = stack in {"dynamo-0.7", "dynamo-1.0", "dynamo-1.3"}
        mode = "in_process" if needs else "multiprocess"
        compiled = compile_text(profile.format(stack=stack, mode=mode))
        assert compiled.resolved is not None
        for process in compiled.resolved.plan.processes:
            folders = {
                Kind.WORKER: "lib/start" if needs else None,
                Kind.FRONTEND: "lib/events" if stack in publishing else None,
            }
            assert process.env.get("PYTHONPATH") == folders.get(process.kind), process.name
