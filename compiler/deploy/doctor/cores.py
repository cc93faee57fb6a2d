"""Cores, where engines compute on them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, passed, warned
from compiler.topology import Accelerator


def check(subject: Subject) -> Iterator[Finding]:
    """Check cores against CPU workers that NIXL joins; on as many cores as workers they starve.

    vLLM moves the main thread of each to the last core of its NUMA node (vllm 0.32.0
    kv_connector/v1/nixl/base_worker.py, rsv_cores_for_kv) and lets it call sched_yield in a loop
    after each step; NIXL's progress thread polls without a pause (nixl 1.5.1 _api.py, pthrDelay).
    Run: on two cores a decode worker that was restarted served after 217 s, or not within 300.
    """
    if subject.plan.accelerator is not Accelerator.CPU:
        return
    workers = subject.plan.workers
    joined = sum(worker.has_nixl for worker in workers)
    cores = len(os.sched_getaffinity(0))
    if joined and cores <= joined:
        yield warned(
            "cores", str(cores), f"{joined} CPU workers joined by NIXL all compute on the last "
            "core, where NIXL's threads never rest: starts and restarts may take minutes",
            "more cores, or topology: agg",
        )  # fmt: skip
    else:
        yield passed("cores", str(cores), f"for {len(workers)} CPU workers")
