"""Write down when an engine or a cache server does what a warm prompt waits for.

Python imports this at its start where the folder is on PYTHONPATH. Without RIG_SPANS it does
nothing. With it, named functions of vLLM, LMCache and NIXL are wrapped as their modules load; each
call is a line of RIG_SPANS/<RIG_NAME>.<pid>.jsonl: name, begin and end in ns since 1970, what it
gave. What LMCache's own event bus says is written beside it. With RIG_PROFILE, CUDA activities are
recorded by torch while RIG_SPANS/profile exists, and left as RIG_SPANS/<RIG_NAME>.trace.json.

Functions as of vllm 0.32.0, lmcache 0.5.6 and nixl 1.5.1; what another release lacks is left out.
"""

from __future__ import annotations

import functools
import importlib.machinery
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

Says = Callable[[tuple[Any, ...], Any], object]
"""What is kept of a call's arguments and result."""


def _nothing(_arguments: tuple[Any, ...], _result: Any) -> None:
    return None


def _result(_arguments: tuple[Any, ...], result: Any) -> object:
    return result if isinstance(result, (int, str)) else None


def _scheduled(_arguments: tuple[Any, ...], result: Any) -> int:
    return int(result.total_num_scheduled_tokens)


def _answered(_arguments: tuple[Any, ...], result: Any) -> int:
    return sum(len(outputs.outputs) for outputs in result.values())


def _received(_arguments: tuple[Any, ...], result: Any) -> int:
    return len(result[1] or ())


def _done(_arguments: tuple[Any, ...], result: Any) -> int:
    return len(result[0])


def _pieces(arguments: tuple[Any, ...], _result: Any) -> int:
    return len(arguments[3])


def _asked(arguments: tuple[Any, ...], _result: Any) -> int:
    return len(arguments[1])


_NIXL = "vllm.distributed.kv_transfer.kv_connector.v1.nixl"
_MODULES = "lmcache.v1.multiprocess.modules"
_AGENT: Mapping[str, Says] = {"make_prepped_xfer": _pieces, "transfer": _result}
FUNCTIONS: Mapping[str, Mapping[str, Says]] = {
    "vllm.v1.engine.core_client": {"add_request_async": _nothing},
    "vllm.v1.engine.core": {"add_request": _nothing},
    "vllm.v1.core.sched.scheduler": {"schedule": _scheduled, "update_from_output": _answered},
    "vllm.v1.worker.gpu_worker": {"execute_model": _nothing, "sample_tokens": _nothing},
    "lmcache.integration.vllm.vllm_multi_process_adapter": {
        "maybe_submit_lookup_request": _nothing,
        "check_lookup_result": _result,
        "batched_submit_retrieve_requests": _asked,
        "get_finished": _received,
        "get_finished_with_lazy_offload": _received,
    },
    f"{_NIXL}.pull_worker": {"_read_blocks_for_req": _nothing, "_read_blocks": _result},
    f"{_NIXL}.base_worker": {"_pop_done_transfers": _done},
    "nixl._api": _AGENT,
    "nixl_cu12._api": _AGENT,
    "nixl_cu13._api": _AGENT,
    f"{_MODULES}.lookup": {"lookup": _nothing, "query_prefetch_status": _result},
    f"{_MODULES}.lmcache_driven_transfer": {"retrieve": _nothing},
    f"{_MODULES}.engine_driven_transfer": {
        "prepare_retrieve": _nothing,
        "commit_retrieve": _nothing,
    },
    "lmcache.v1.mp_observability.event_bus": {},
}
"""By module; a name is wrapped in every class of the module that defines it."""
EVENTS = (
    "MP_LOOKUP_PREFETCH_START",
    "MP_LOOKUP_PREFETCH_END",
    "MP_RETRIEVE_SUBMITTED",
    "MP_RETRIEVE_START",
    "MP_RETRIEVE_END",
    "MP_TRANSFER_PHASE_SAMPLES",
)
_FLUSHED_EVERY_S = 0.1
_rows: list[tuple[str, int, int, object]] = []


def main() -> None:
    """Wrap what is loaded from now on, and write rows down from a thread of its own."""
    sys.meta_path.insert(0, _Finder())
    os.register_at_fork(after_in_child=_begin_again)
    _begin()


def _begin() -> None:
    threading.Thread(target=_write, daemon=True).start()


def _begin_again() -> None:
    _rows.clear()
    _begin()


class _Finder:
    """Wraps the functions of a module once it has been executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's own spec, whose loader wraps its functions afterwards."""
        if name not in FUNCTIONS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            _wrap_all(module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


def _wrap_all(module: ModuleType) -> None:
    classes = [item for item in vars(module).values() if isinstance(item, type)]
    for held in (item for item in classes if item.__module__ == module.__name__):
        for name, says in FUNCTIONS[module.__name__].items():
            if name in vars(held):
                setattr(held, name, _wrapped(vars(held)[name], name, says))
        if held.__name__ == "EventBus":
            held.start = _listening(held.start)  # type: ignore[attr-defined]


def _wrapped(function: Callable[..., Any], name: str, says: Says) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **more: Any) -> Any:
        began = time.time_ns()
        result = function(*arguments, **more)
        ended = time.time_ns()
        try:
            said = says(arguments, result)
        except Exception:  # another release's arguments
            said = None
        _rows.append((name, began, ended, said))
        return result

    return call


def _listening(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def call(bus: Any) -> Any:
        from lmcache.v1.mp_observability.event import EventType

        for name in EVENTS:
            if hasattr(EventType, name):
                bus.subscribe(getattr(EventType, name), _heard)
        return start(bus)

    return call


def _heard(event: Any) -> None:
    at = int(event.timestamp * 1e9)
    samples = event.metadata.get("samples")
    if samples is None:
        _rows.append((event.event_type.value, at, at, event.metadata.get("total_bytes")))
    for phase, direction, _device, elapsed_ms, count, _key, began_s, ended_s in samples or ():
        if began_s and ended_s:  # without an anchor on the wall clock they are 0
            name = (
                f"phase {_names('TransferPhase', phase)} {_names('TransferDirection', direction)}"
            )
            said = {"ms": round(elapsed_ms, 3), "bytes": count}
            _rows.append((name, int(began_s * 1e9), int(ended_s * 1e9), said))


def _names(kind: str, value: Any) -> str:
    from lmcache import lmcache_native
    from lmcache.v1.platform import ops_types

    held = getattr(lmcache_native, kind, None) or getattr(ops_types, kind)
    found = (name for name, member in held.__members__.items() if int(member) == int(value))
    return next(found, str(value))


def _write() -> None:
    folder, name = Path(os.environ["RIG_SPANS"]), os.environ.get("RIG_NAME", "process")
    path = folder / f"{name}.{os.getpid()}.jsonl"
    asked = folder / "profile"
    profile: Any = None
    while True:
        time.sleep(_FLUSHED_EVERY_S)
        if _rows:
            taken = _rows[:]
            del _rows[: len(taken)]
            with open(path, "a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(row)}\n" for row in taken)
        if "RIG_PROFILE" in os.environ and asked.exists() != (profile is not None):
            profile = _profiled(profile, folder / f"{name}.trace.json")


def _profiled(profile: Any, path: Path) -> Any:
    """Begin to record, or end it and leave the trace."""
    if "torch" not in sys.modules:
        return None
    import torch

    if profile is not None:
        profile.stop()
        profile.export_chrome_trace(f"{path}.part")
        os.replace(f"{path}.part", path)
        return None
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profile = torch.profiler.profile(activities=activities)
    profile.start()
    (path.parent / f"{path.name}.recording").touch()
    return profile


if "RIG_SPANS" in os.environ:
    main()
