"""Name the units of a deployment, and the places that they know from its name alone."""

from __future__ import annotations

from compiler.plan import Plan
from compiler.process import Kind, Process, ProcessName

PREFIX = "dync-"


def target_unit(name: str) -> str:
    """Return the unit that stands for the whole deployment."""
    return f"{PREFIX}{name}.target"


def process_unit(name: str, process: ProcessName) -> str:
    """Return the unit of one process."""
    return f"{PREFIX}{name}-{process}.service"


def serving_unit(name: str) -> str:
    """Return the unit that has done its work once the deployment answers a completion."""
    return f"{PREFIX}{name}-serving.service"


def registrations_unit(name: str) -> str:
    """Return the unit that puts back registrations which a pause of the host made expire."""
    return f"{PREFIX}{name}-registrations.service"


def drivers_unit(name: str) -> str:
    """Return the unit that loads the driver of the GPUs, the only one that is root's."""
    return f"{PREFIX}{name}-gpus.service"


def unit_environment(name: str, process: Process, *, is_system: bool) -> dict[str, str]:
    """Return what a unit sets beside the plan's variables: places of this host, by specifiers."""
    cache = f"%C/dync/{name}"
    found = {
        "XDG_CACHE_HOME": f"{cache}/{process.name}",
        "HF_HOME": f"{cache}/huggingface",
    }
    if is_system:
        found["HOME"] = f"%S/dync/{name}"
    if process.kind is Kind.WORKER:
        found["VLLM_CACHE_ROOT"] = f"{cache}/{process.name}/vllm"
        found["TRITON_CACHE_DIR"] = f"{cache}/{process.name}/triton"
        found["TORCHINDUCTOR_CACHE_DIR"] = f"{cache}/{process.name}/inductor"
        found["PROMETHEUS_MULTIPROC_DIR"] = f"%t/dync-{name}/{process.name}"
        found["VLLM_RPC_BASE_PATH"] = f"%t/dync-{name}/{process.name}"
    if process.kind is Kind.WORKER and process.gpus:
        found["CUDA_CACHE_PATH"] = f"{cache}/{process.name}/cuda"
        found["MAX_JOBS"] = "4"
    return found


def service_units(plan: Plan, *, is_system: bool) -> tuple[str, ...]:
    """Return every service of a plan that a manager has, in a start order."""
    processes = tuple(process_unit(plan.name, process.name) for process in plan.processes)
    keeper = (registrations_unit(plan.name),) if plan.registrations else ()
    drivers = (drivers_unit(plan.name),) if is_system and has_gpus(plan) else ()
    return (*drivers, *keeper, *processes, serving_unit(plan.name))


def has_gpus(plan: Plan) -> bool:
    """Return whether a process of the plan is on a GPU, so that a driver must be loaded."""
    return any(process.gpus for process in plan.processes)


def restarted_with(plan: Plan, process: ProcessName) -> tuple[ProcessName, ...]:
    """Return the processes that systemd restarts along with one: the workers of a cache server."""
    return tuple(worker.name for worker in plan.served_by(process))
