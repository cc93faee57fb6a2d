"""Host memory: what the plan takes against what is free; /dev/shm, huge pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from compiler.byte_units import GIB
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.plan import Plan
from compiler.process import Kind, host_bytes

_SHM = Path("/dev/shm")


def check(subject: Subject) -> Iterator[Finding]:
    """Look at host memory; what runs already has what it takes of it."""
    yield _memory(subject)
    yield from _shared(subject)
    if _wants_huge_pages(subject.plan):
        yield _huge_pages(subject)


def _memory(subject: Subject) -> Finding:
    wanted, own = subject.plan.host_bytes, host_bytes(subject.running)
    seen = psutil.virtual_memory()
    free = f"{_gib(seen.available)} of {_gib(seen.total)} are available"
    text = f"the plan's caches take {_gib(wanted)}, {free}{_beside(own)}"
    if wanted - own > seen.available:
        return failed(
            "memory", "host memory", text, "a smaller lmcache.cpu_cache_gb, or end what takes it"
        )
    return passed("memory", "host memory", text)


def _beside(own: int) -> str:
    return f" beside the {_gib(own)} of what runs already" if own else ""


def _shared(subject: Subject) -> Iterator[Finding]:
    """Look at /dev/shm: cache servers share their memory with workers through it.

    Source: lmcache 0.5.6 says "Insufficient /dev/shm capacity … falling back to pickle", run.
    """
    wanted = subject.plan.shared_bytes
    own = host_bytes(item for item in subject.running if item.kind is Kind.CACHE_SERVER)
    if not wanted:
        return
    try:
        free = shutil.disk_usage(_SHM).free
    except OSError:
        yield failed("shm", str(_SHM), "is not there", "mount -t tmpfs tmpfs /dev/shm")
        return
    text = f"{_gib(free)} free{_beside(own)}, cache servers take {_gib(wanted)}"
    if free + own < wanted:
        yield warned(
            "shm", str(_SHM), f"{text}: they copy through pickle instead, slower",
            f"mount -o remount,size={-(-wanted // GIB)}G /dev/shm; in a container: --shm-size",
        )  # fmt: skip
    else:
        yield passed("shm", str(_SHM), text)


def _wants_huge_pages(plan: Plan) -> bool:
    return any(
        "hugepage" in " ".join((*process.argv, *process.env, *process.launch.lmcache_config))
        for process in plan.processes
    )


def _huge_pages(subject: Subject) -> Finding:
    """Look at the pool of huge pages, which LMCache takes its memory from where told to."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    size = int(fields.get("Hugepagesize", "0 kB").split()[0]) * 1024
    free = int(fields.get("HugePages_Free", "0")) * size
    wanted, own = subject.plan.host_bytes, host_bytes(subject.running)
    text = f"{_gib(free)} free in huge pages{_beside(own)}, the caches take {_gib(wanted)}"
    if free + own < wanted:
        pages = -(-wanted // size) if size else 0
        return failed("huge-pages", "/proc/meminfo", text, f"sysctl vm.nr_hugepages={pages}")
    return passed("huge-pages", "/proc/meminfo", text)


def _gib(amount: int) -> str:
    return f"{amount / GIB:.1f} GiB"
