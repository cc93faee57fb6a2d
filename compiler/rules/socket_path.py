"""The sockets between an engine's processes have paths that Linux allows.

vLLM names each after a random id of 36 characters, below VLLM_RPC_BASE_PATH or TMPDIR; with more
than 107 characters in all, the engine dies as it starts.

Accepted:
    name: sockets
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_RPC_BASE_PATH: /run/vllm}}]

Rejected:
    name: sockets
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - role: aggregated
        gpus: [0]
        env:
          TMPDIR: /scratch/projects/language-models/serving/deployments/qwen3/temporary-files

Source: vLLM 0.32.0 utils/network_utils.py, get_open_zmq_ipc_path; unix(7), sun_path; lmcache 0.5.6
v1/rpc_utils.py, IPC_SOCKET_PATH_MAX_LEN.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.topology import Topology

RULE = Rule(
    "socket-path",
    Severity.ERROR,
    "a socket's path has at most 107 bytes, 37 of which vLLM adds itself",
)
_LIMIT = 107 - len("/") - 36
_NAMES = ("VLLM_RPC_BASE_PATH", "TMPDIR")


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report a worker's folder for sockets that leaves no room for their names."""
    for group in topology.workers:
        name = next((name for name in _NAMES if name in group.env), None)
        length = len(group.env[name].encode()) if name else 0
        if name and length > _LIMIT:
            fix = "write VLLM_RPC_BASE_PATH: /tmp"
            yield RULE.at(
                group.origin.of("env", name),
                f"{name} has {length} bytes, more than {_LIMIT}",
                fix=fix if name == "VLLM_RPC_BASE_PATH" else f"{fix} beside it",
            )
