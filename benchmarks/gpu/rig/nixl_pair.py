"""Two bare NIXL agents on one host: how fast KV-sized memory moves, and over which transport.

Run with the engines' Python: nixl_pair.py (target|initiator) FOLDER …; `run` starts both.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PIECES = 256
"""Descriptors of one transfer, as a KV transfer has one for each block and layer."""


UCX_SAYS = {"UCX_PROTO_INFO": "y", "UCX_LOG_LEVEL": "info"}
"""Lets UCX print the tables that `protocols` reads."""


def matrix() -> dict[str, dict[str, str]]:
    """Return the settings that are tried, by name."""
    get = {"UCX_CUDA_IPC_ENABLE_GET_ZCOPY": "on"}
    return {
        "default": {},
        "default, with UCX's reasons": {"UCX_LOG_LEVEL": "debug"},
        "get zcopy": get,
        "get zcopy, tls cuda": {**get, "UCX_TLS": "cuda_ipc,cuda_copy,sm,self,tcp"},
        "rma pipeline": {"UCX_RMA_PPLN_ENABLE": "y"},
    }


def run(python: str, folder: Path, size_mib: int = 512) -> list[dict[str, Any]]:
    """Move `size_mib` by READ and by WRITE under each setting; give GB/s and UCX's own words."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, env in matrix().items():
        for operation in ("READ", "WRITE"):
            tag = re.sub(r"\W+", "-", f"{name}-{operation}")
            found.append(_pair(python, folder / tag, operation, size_mib, env) | {"setting": name})
            print(f"  nixl {name}, {operation}: {_summary(found[-1])}", flush=True)
    return found


def _summary(row: Mapping[str, Any]) -> str:
    protocol = row["protocols"][-1] if row["protocols"] else ""
    return f"{row.get('gb_per_s')} GB/s; {protocol} {row['says']} {row.get('error', '')}"


def _pair(
    python: str, folder: Path, operation: str, size_mib: int, env: Mapping[str, str]
) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)  # an earlier run's files would be taken for ours
    folder.mkdir(parents=True)
    words = [str(size_mib), operation]
    told = {**UCX_SAYS, "NIXL_LOG_LEVEL": "WARN"}
    whole = {**os.environ, **told, **env}
    logs = {}
    processes = {}
    for role in ("target", "initiator"):
        logs[role] = folder / f"{role}.log"
        with open(logs[role], "wb") as sink:
            processes[role] = subprocess.Popen(
                [python, __file__, role, str(folder), *words],
                env=whole,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
    with suppress(subprocess.TimeoutExpired):
        processes["initiator"].wait(90)
    for process in processes.values():
        process.kill()
        process.wait()
    row: dict[str, Any] = {"operation": operation, "mib": size_mib, "env": dict(env)}
    result = folder / "result.json"
    text = logs["initiator"].read_text(errors="replace")
    row["protocols"] = protocols(text)
    row["says"] = sorted(set(re.findall(r"cuda-ipc get zcopy[^\n]*", text)))
    if result.is_file():
        measured: dict[str, Any] = json.loads(result.read_text())
        return row | measured
    return row | {"error": "\n".join(text.splitlines()[-6:])}


def protocols(text: str) -> list[str]:
    """Find how UCX says it reads and writes remote memory, in the tables of UCX_PROTO_INFO=y."""
    found: dict[str, None] = {}
    title = ""
    for line in text.splitlines():
        cells = [re.sub(r"\s+", " ", cell).strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 1:
            title = cells[0]
        elif len(cells) == 3 and title.startswith("remote memory") and ".." in cells[0]:
            found[f"{title}: {cells[0]} {cells[1]} over {cells[2]}"] = None
    return list(found)


def protocols_by_rank(text: str) -> dict[str, list[str]]:
    """Find the same for each process that the lines tell apart, by vLLM's names of the ranks."""
    by_pid: dict[str, list[str]] = {}
    for line in text.splitlines():
        if said := re.search(r"\[[^\s:\]]+:(\d+) *:\w+ *\]", line):
            by_pid.setdefault(said[1], []).append(line)
    named = {pid: name for name, pid in re.findall(r"\((\w+) pid=(\d+)\)", text)}
    found = {named.get(pid, pid): protocols("\n".join(lines)) for pid, lines in by_pid.items()}
    return {name: said for name, said in found.items() if said}


def main(words: Sequence[str]) -> None:
    """Be one of the two agents."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["target", "initiator"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("size_mib", type=int)
    parser.add_argument("operation")
    arguments = parser.parse_args(words)
    import torch
    from nixl._api import nixl_agent, nixl_agent_config

    agent = nixl_agent(arguments.role, nixl_agent_config(num_threads=4))
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    fill = 7 if arguments.role == "target" else 3
    memory = torch.full(
        (PIECES, arguments.size_mib * (1 << 20) // PIECES), fill, dtype=torch.uint8, device=device
    )
    pieces = [memory[index] for index in range(PIECES)]
    agent.register_memory(pieces)
    ours = agent.get_serialized_descs(agent.get_xfer_descs(pieces))
    _leave(arguments.folder / f"{arguments.role}.descs", ours)
    _leave(arguments.folder / f"{arguments.role}.agent", agent.get_agent_metadata())
    other = "initiator" if arguments.role == "target" else "target"
    agent.add_remote_agent(_take(arguments.folder / f"{other}.agent"))
    theirs = agent.deserialize_descs(_take(arguments.folder / f"{other}.descs"))
    if arguments.role == "target":
        while True:
            agent.get_new_notifs()
            time.sleep(0.01)
    local = agent.get_xfer_descs(pieces)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        handle = agent.initialize_xfer(arguments.operation, local, theirs, "target", b"x")
        state = agent.transfer(handle)
        while state == "PROC":
            state = agent.check_xfer_state(handle)
        times.append(time.perf_counter() - began)
        agent.release_xfer_handle(handle)
        if state != "DONE":
            raise SystemExit(f"transfer ended as {state}")
    right = int(memory.min()) == 7 if arguments.operation == "READ" else None
    rate = arguments.size_mib * (1 << 20) / min(times[1:]) / 1e9
    seconds = [round(value, 4) for value in times]
    answer = {"gb_per_s": round(rate, 3), "seconds": seconds, "bytes_right": right}
    _leave(arguments.folder / "result.json", json.dumps(answer).encode())


def _leave(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_bytes(content)
    fresh.rename(path)


def _take(path: Path) -> bytes:
    deadline = time.monotonic() + 60
    while not path.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{path} did not come")
        time.sleep(0.02)
    return path.read_bytes()


if __name__ == "__main__":
    main(sys.argv[1:])
