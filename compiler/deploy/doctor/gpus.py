"""GPUs: the plan's are there, free enough, and the driver is new enough for the stack.

Source: nvidia-ml-py (NVML), as nvidia-smi reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from compiler.byte_units import GIB
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.deploy.probe.processes import look_at
from compiler.process import Process
from compiler.topology import Accelerator

_RUNTIME = re.compile(r"nvidia_cuda_runtime(?:_cu\d+)?-(\d+)\.(\d+)[^-]*\.dist-info\Z")


def check(subject: Subject) -> Iterator[Finding]:
    """Look at the plan's GPUs; a plan for CPUs needs none."""
    if subject.plan.accelerator is not Accelerator.CUDA:
        return
    import pynvml  # noqa: PLC0415 - NVML is looked for where a plan has GPUs

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        gpus = sorted({gpu for process in subject.plan.processes for gpu in process.gpus})
        yield failed(
            "gpus", f"GPU {', '.join(gpus)}", f"no NVIDIA driver answers here ({error})",
            "run on the GPU host with its driver (nvidia-smi), in a container with --gpus all; "
            "or build for CPUs: --set accelerator=cpu",
        )  # fmt: skip
        return
    try:
        yield _driver(subject, pynvml)
        claims = fractions(subject.plan.processes)
        for gpu, fraction in claims.items():
            yield from _gpu(subject, gpu, fraction, pynvml)
        yield from _twice(claims, pynvml)
    finally:
        pynvml.nvmlShutdown()


def fractions(processes: Iterable[Process]) -> Mapping[str, float]:
    """Return what fraction of each GPU's memory processes take together."""
    found: dict[str, float] = {}
    for process in processes:
        for gpu in process.gpus:
            found[gpu] = found.get(gpu, 0.0) + process.memory.gpu_fraction
    return found


def _driver(subject: Subject, nvml: Any) -> Finding:
    version = nvml.nvmlSystemGetDriverVersion()
    number = nvml.nvmlSystemGetCudaDriverVersion_v2()
    has = (number // 1000, number % 1000 // 10)
    needs = stack_cuda(subject.stack_folder)
    text = f"driver {version} runs CUDA up to {has[0]}.{has[1]}"
    if needs is None:
        return passed("gpu-driver", version, text)
    text += f"; the stack is built for {needs[0]}.{needs[1]}"
    if has[0] < needs[0]:
        return failed(
            "gpu-driver", version, text, "a newer driver, or an older stack: dync stack list"
        )
    return passed("gpu-driver", version, text)


def stack_cuda(folder: Path) -> tuple[int, int] | None:
    """Read which CUDA a stack's packages are built for; None where it has no such package."""
    for place in folder.glob("lib/python*/site-packages/nvidia_cuda_runtime*.dist-info"):
        found = _RUNTIME.search(place.name)
        if found:
            return int(found[1]), int(found[2])
    return None


def _gpu(subject: Subject, gpu: str, fraction: float, nvml: Any) -> Iterator[Finding]:
    name = f"GPU {gpu}"
    try:
        handle = _handle(gpu, nvml)
    except nvml.NVMLError:
        yield failed("gpus", name, f"is not there; this host has {_list(nvml)}", "workers[].gpus")
        return
    if not gpu.startswith("MIG-") and _has_mig(handle, nvml):
        yield failed(
            "gpus", name, "is split by MIG, and a worker cannot use the whole",
            f"workers[].gpus: a MIG UUID ({_instances(handle, nvml)}), or nvidia-smi -mig 0",
        )  # fmt: skip
        return
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    text = (
        f"{nvml.nvmlDeviceGetName(handle)}: {memory.free / GIB:.1f} of "
        f"{memory.total / GIB:.1f} GiB free, the plan takes {fraction:.0%}"
    )
    own = _own_fraction(subject, handle, nvml)
    if own:
        text += f" and runs there already with {own:.0%}"
    others = _others(subject, handle, nvml)
    if memory.free + own * memory.total < fraction * memory.total:
        by = f", held by {', '.join(others)}" if others else ""
        yield failed(
            "gpus", name, text + by,
            "end what holds it, another GPU, or a smaller engine_args.gpu_memory_utilization",
        )  # fmt: skip
    elif others:
        yield warned("gpus", name, f"{text}; used by {', '.join(others)}", "another GPU, or end it")
    else:
        yield passed("gpus", name, text)


def _twice(gpus: Iterable[str], nvml: Any) -> Iterator[Finding]:
    """Find one GPU under two names, an index and a UUID: their workers would share its memory."""
    names: dict[str, list[str]] = {}
    for gpu in gpus:
        with suppress(nvml.NVMLError):
            handle = _handle(gpu, nvml)
            names.setdefault(nvml.nvmlDeviceGetUUID(handle), []).append(gpu)
    for uuid, same in names.items():
        if len(same) > 1:
            text = f"is one GPU ({uuid}) under {len(same)} names"
            yield failed("gpus", f"GPU {', '.join(same)}", text, "workers[].gpus: one name for it")


def _handle(gpu: str, nvml: Any) -> Any:
    return nvml.nvmlDeviceGetHandleByUUID(gpu) if "-" in gpu else _by_index(gpu, nvml)


def _by_index(gpu: str, nvml: Any) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(int(gpu))


def _has_mig(handle: Any, nvml: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False  # a GPU that cannot be split


def _instances(handle: Any, nvml: Any) -> str:
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            found.append(nvml.nvmlDeviceGetUUID(instance))
        except nvml.NVMLError:
            continue
    return ", ".join(found) or "none is made yet"


def _list(nvml: Any) -> str:
    handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
    shown = [f"{at}: {nvml.nvmlDeviceGetUUID(handle)}" for at, handle in enumerate(handles)]
    return ", ".join(shown) or "none"


def _own_fraction(subject: Subject, handle: Any, nvml: Any) -> float:
    """Return what of a GPU the deployment has that runs already, by whatever name it has it."""
    uuid, found = nvml.nvmlDeviceGetUUID(handle), 0.0
    for gpu, fraction in fractions(subject.running).items():
        with suppress(nvml.NVMLError):
            if nvml.nvmlDeviceGetUUID(_handle(gpu, nvml)) == uuid:
                found += fraction
    return found


def _others(subject: Subject, handle: Any, nvml: Any) -> list[str]:
    """Name the processes on a GPU that are not the deployment's own, nor children of those."""
    own = {process.argv for process in (*subject.plan.processes, *subject.running)}
    try:
        seen = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return []
    found = []
    for item in seen:
        holder = look_at(item.pid)
        if holder is None or not any(argv in own for argv in (holder.argv, *_parents(item.pid))):
            what = " ".join(holder.argv)[:60] if holder else "another user's or container's"
            found.append(f"pid {item.pid} ({what})")
    return found


def _parents(pid: int) -> Iterator[tuple[str, ...]]:
    """Return the argv of the processes above one: an engine's core is a child of its worker."""
    with suppress(psutil.Error):
        for parent in psutil.Process(pid).parents():
            yield tuple(parent.cmdline())
