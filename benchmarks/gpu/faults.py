"""Faults that start, look healthy, and fail or never cache: planted into built bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_injection import rewritten
from compiler.topology import CacheMode


@dataclass(frozen=True, slots=True)
class Fault:
    """A ready profile, the file of its bundle that is changed, and what `dync verify` must say.

    workers: how many groups of them it has. graphs: whether the fault needs CUDA graphs; without
    them an engine starts sooner. mode: LMCache's, where the fault is one of that mode.
    """

    profile: str
    workers: int
    says: str
    file: str
    before: str
    after: str
    graphs: bool = False
    mode: CacheMode | None = None

    def plant(self, bundle: Path) -> None:
        """Change the bundle."""
        rewritten(bundle / self.file, self.before, self.after)


WRONG_ANSWERS = "log-probabilities|likeliest token"
_INSIDE = CacheMode.IN_PROCESS
_WORKER, _LMCACHE = "bin/aggregated-0.sh", "lmcache/aggregated-0.yaml"
ON_CUDA: Mapping[str, Fault] = {
    "fault-new-runner": Fault(
        "agg-in-process", 1, WRONG_ANSWERS,
        _WORKER, r" +VLLM_USE_V2_MODEL_RUNNER=0\n", "", graphs=True, mode=_INSIDE,
    ),
    "fault-500-gb": Fault(
        "agg-in-process", 1, "degraded mode|LMCache served nothing|did not ask LMCache",
        _LMCACHE, r"max_local_cpu_size: .*", "max_local_cpu_size: 500", mode=_INSIDE,
    ),
    "fault-chunk-abc": Fault(
        "agg-in-process", 1, "degraded mode|LMCache served nothing|did not ask LMCache",
        _WORKER, rf"LMCACHE_CONFIG_FILE={_LMCACHE}", "LMCACHE_CHUNK_SIZE=abc", mode=_INSIDE,
    ),
    "fault-no-local-cpu": Fault(
        "agg-in-process", 1, "LMCache served nothing|did not ask LMCache",
        _LMCACHE, r"local_cpu: true", "local_cpu: false", mode=_INSIDE,
    ),
    "fault-tcp": Fault(
        "disagg-one-gpu", 2, "UCX_CUDA_IPC_ENABLE_GET_ZCOPY is missing|a new prompt's KV took",
        "bin/decode-0.sh", r" +UCX_CUDA_IPC_ENABLE_GET_ZCOPY=on\n", "",
    ),
    "fault-hybrid": Fault(
        "disagg-one-gpu", 2, "NIXL does not work between these workers",
        "engine/decode-0.yaml", r"disable-hybrid-kv-cache-manager: true\n", "", mode=_INSIDE,
    ),
    "fault-block-size": Fault(
        "disagg-one-gpu", 2, "NIXL_ERR|transfers failed|NIXL does not work",
        "engine/decode-0.yaml", "block-size: 64", "block-size: 32",
    ),
}  # fmt: skip
CONNECTOR_ON_CPU = Fault(
    "agg-cpu", 1, "degraded mode",
    "engine/aggregated-0.yaml", r"(?s)kv-transfer-config:.*",
    'kv-transfer-config:\n  kv_connector: "LMCacheConnectorV1"\n  kv_role: "kv_both"\n',
)  # fmt: skip
"""The in-process connector in the engine file: healthy on a CPU, and it never caches."""
ON_CPU: Mapping[str, Fault] = {"fault-connector": CONNECTOR_ON_CPU}
