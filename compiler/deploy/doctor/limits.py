"""Limits of this shell, which launch.sh hands on; units set their own."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, passed, warned
from compiler.topology import Accelerator

_FILES = 65535
"""vLLM raises its soft limit to this (vllm 0.32.0 vllm/utils/system_utils.py, set_ulimit)."""


def check(subject: Subject) -> Iterator[Finding]:
    """Look at open files, and at locked memory where GPUs want pinned pages."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        yield warned(
            "limits", "nofile", f"at most {hard} open files; vLLM wants {_FILES}",
            f"ulimit -Hn {_FILES}, or /etc/security/limits.conf; units set it themselves",
        )  # fmt: skip
    else:
        yield passed("limits", "nofile", f"open files: {_text(hard)}")
    if subject.plan.accelerator is not Accelerator.CUDA:
        return
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    wanted = sum(process.memory.host_bytes for process in subject.plan.processes)
    if locked != resource.RLIM_INFINITY and locked < wanted:
        yield warned(
            "limits", "memlock",
            f"{locked >> 20} MiB may be locked; pinned caches take {wanted >> 20} MiB",
            "ulimit -l unlimited, or /etc/security/limits.conf; units set it themselves",
        )  # fmt: skip
    else:
        yield passed("limits", "memlock", f"locked memory: {_text(locked)}")


def _text(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
