"""Build every process of a laid-out topology from its stack's skeletons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from compiler.document import Json
from compiler.kv import cache_connector, kv_transfer_config, loses_hybrid_manager
from compiler.layout import CacheSeat, Layout, WorkerSeat
from compiler.plan import Kind, Launch, Listen, Memory, OffForm, Process, ProcessName, Ready
from compiler.rules.stack_cases import case_env
from compiler.skeleton import fill, fill_argv, text_of
from compiler.stacks.stack import Platform, Stack, Start
from compiler.topology import Accelerator, CacheMode, Topology, WorkerGroup

GIB = 1 << 30
ENGINE_FOLDER = "engine"
LMCACHE_FOLDER = "lmcache"
LOOPBACK = "127.0.0.1"
_SWITCH_WORDS = {"chunk_size": "LMCACHE_CHUNK_SIZE", "cpu_cache_gb": "LMCACHE_MAX_LOCAL_CPU_SIZE"}


class ProcessBuilder:
    """One topology on one stack."""

    def __init__(self, topology: Topology, stack: Stack, layout: Layout) -> None:
        self.topology = topology
        self.stack = stack
        self.layout = layout
        self.platform: Platform = stack.platforms[topology.accelerator.value]
        folder = f"{topology.deploy.prefix.rstrip('/')}/stacks/{stack.name}/bin"
        self.words: dict[str, Json] = {
            "bin": folder,
            "python": f"{folder}/python",
            "model": topology.model.id,
            "chunk_size": topology.lmcache.chunk_size,
            "cpu_cache_gb": topology.lmcache.cpu_cache_gb,
        }
        self.cache_ports = {seat.name: seat.port for seat in layout.caches}

    def processes(self) -> tuple[Process, ...]:
        """Give all processes in a start order: cache servers, workers, frontend."""
        caches = tuple(self._cache(seat) for seat in self.layout.caches)
        workers = self._workers()
        return (*caches, *workers, *self._frontend(workers))

    def _cache(self, seat: CacheSeat) -> Process:
        start = self.stack.starts["cache_server"]
        words = {**self.words, "cache_port": seat.port, "http_port": seat.http_port}
        skeleton = (*start.argv, *self.platform.cache_server_argv)
        return Process(
            name=seat.name,
            kind=Kind.CACHE_SERVER,
            gpus=seat.gpus,
            argv=fill_argv(skeleton, words),
            env=self._env(start, seat.gpus),
            without_lmcache=OffForm.NOT_STARTED,
            switch_argv={
                variable: skeleton.index(f"{{{word}}}") for word, variable in _SWITCH_WORDS.items()
            },
            listens=(
                Listen(purpose="lmcache", host=LOOPBACK, port=seat.port),
                Listen(purpose="http", host=LOOPBACK, port=seat.http_port),
            ),
            ready=_ready(start, LOOPBACK, seat.http_port),
            metrics=url_of(LOOPBACK, seat.http_port, start.metrics_path),
            memory=Memory(
                host_bytes=int(self.topology.lmcache.cpu_cache_gb * GIB), gpu_fraction=0.0
            ),
            stop_s=start.stop_s,
        )

    def _workers(self) -> tuple[Process, ...]:
        last_on: dict[str, ProcessName] = {}
        workers = []
        for seat in self.layout.workers:
            # Two engines that size their KV at the same moment on one GPU both mis-size it.
            earlier = dict.fromkeys(last_on[gpu] for gpu in seat.gpus if gpu in last_on)
            workers.append(self._worker(seat, tuple(earlier)))
            last_on.update(dict.fromkeys(seat.gpus, seat.name))
        return tuple(workers)

    def _worker(self, seat: WorkerSeat, earlier: tuple[ProcessName, ...]) -> Process:
        topology, start = self.topology, self.stack.starts["worker"]
        in_process = seat.uses_lmcache and topology.lmcache.mode is CacheMode.IN_PROCESS
        built = self._launch(seat, seat.uses_lmcache)
        off = self._launch(seat, False) if seat.uses_lmcache else OffForm.SAME
        listens = [Listen(purpose="http", host=seat.host, port=seat.port)]
        if seat.side_channel_port is not None:
            listens.append(
                Listen(purpose="nixl_side_channel", host=LOOPBACK, port=seat.side_channel_port)
            )
        key_file = topology.frontend.api_key_file
        timeout_s = topology.deploy.ready_timeout_s
        return Process(
            **_fields(built),
            name=seat.name,
            kind=Kind.WORKER,
            role=seat.group.role,
            gpus=seat.gpus,
            without_lmcache=off,
            secrets={"VLLM_API_KEY": key_file} if key_file else {},
            switch_env=tuple(_SWITCH_WORDS.values()) if in_process else (),
            listens=tuple(listens),
            after=(*((seat.cache,) if seat.cache else ()), *earlier),
            ready=_ready(start, reachable(seat.host), seat.port, timeout_s),
            metrics=url_of(reachable(seat.host), seat.port, start.metrics_path),
            memory=self._memory(seat, in_process),
            stop_s=start.stop_s + topology.deploy.drain_s,
        )

    def _memory(self, seat: WorkerSeat, in_process: bool) -> Memory:
        cache = self.topology.lmcache.cpu_cache_gb * seat.group.tensor_parallel_size * GIB
        on_cpu = self.topology.accelerator is Accelerator.CPU
        kv_gib = seat.group.env.get("VLLM_CPU_KVCACHE_SPACE", "0") if on_cpu else "0"
        return Memory(
            host_bytes=int(cache if in_process else 0) + int(_number(kv_gib) * GIB),
            gpu_fraction=0.0 if on_cpu else _gpu_fraction(seat, self.platform),
        )

    def _launch(self, seat: WorkerSeat, uses_lmcache: bool) -> Launch:
        """Give one form of a worker: with LMCache or without."""
        stack, topology = self.stack, self.topology
        start = stack.starts["worker"]
        in_process = uses_lmcache and topology.lmcache.mode is CacheMode.IN_PROCESS
        off = seat.uses_lmcache and not uses_lmcache
        engine_file = f"{ENGINE_FOLDER}/{seat.name}{'.no-lmcache' if off else ''}.yaml"
        cache = None
        if uses_lmcache:
            port = self.cache_ports[seat.cache] if seat.cache else 0
            cache = cache_connector(
                stack, topology.lmcache.mode, {**self.words, "cache_port": port}
            )
        env = self._env(start, seat.gpus)
        if seat.side_channel_port is not None:
            env[stack.side_channel["host_variable"]] = LOOPBACK
            env[stack.side_channel["port_variable"]] = str(seat.side_channel_port)
            env.update(self.platform.transfer_env)
        if in_process:
            env["LMCACHE_CONFIG_FILE"] = f"{LMCACHE_FOLDER}/{seat.name}.yaml"
        if uses_lmcache:
            env.update(case_env(topology, seat.group, stack))
        env.update(seat.group.env)
        config = fill(dict(stack.lmcache_config), self.words) if in_process else {}
        return Launch(
            argv=fill_argv(
                (*self.platform.worker_argv, *start.argv),
                {**self.words, "engine_file": engine_file},
            ),
            env=dict(sorted(env.items())),
            engine_args=self._engine_args(seat),
            kv_transfer_config=kv_transfer_config(topology, stack, seat.group.role, cache),
            lmcache_config=config if isinstance(config, dict) else {},
        )

    def _engine_args(self, seat: WorkerSeat) -> dict[str, Json]:
        topology = self.topology
        served = topology.model.served_name or topology.model.id
        arguments: dict[str, Json] = {
            "served_model_name": [served],
            "host": seat.host,
            "port": seat.port,
            "tensor_parallel_size": seat.group.tensor_parallel_size,
            "shutdown_timeout": topology.deploy.drain_s,
        }
        if topology.model.max_len is not None:
            arguments["max_model_len"] = topology.model.max_len
        if loses_hybrid_manager(topology, self.stack):
            arguments["disable_hybrid_kv_cache_manager"] = True
        arguments.update(self.stack.engine_args)
        arguments.update(self._given_engine_args(seat.group))
        return arguments

    def _given_engine_args(self, group: WorkerGroup) -> dict[str, Json]:
        """Give the profile's engine_args in the form that the engine's file can hold."""
        given: dict[str, Json] = {}
        for name, value in group.engine_args.items():
            option = self.stack.engine_options[name]
            if option.json == "array" and isinstance(value, list):
                given[name] = json.dumps(value, ensure_ascii=False)
            elif value is not False or option.negatable:
                given[name] = value
        return given

    def _frontend(self, workers: tuple[Process, ...]) -> tuple[Process, ...]:
        topology, metrics_port = self.topology, self.layout.router_metrics_port
        if metrics_port is None:
            return ()
        start, frontend = self.stack.starts["frontend"], topology.frontend
        each: dict[str, tuple[Mapping[str, Json], ...]] = {
            role: tuple(
                {"url": f"http://{LOOPBACK}:{worker.listens[0].port}"}
                for worker in workers
                if worker.role is not None and worker.role.value == role
            )
            for role in ("aggregated", "prefill", "decode")
        }
        words = {
            **self.words,
            "host": frontend.host,
            "port": frontend.port,
            "metrics_port": metrics_port,
            "policy": self.stack.routing[frontend.routing or "round_robin"],
        }
        shape = self.stack.frontend_argv[topology.arrangement.value]
        return (
            Process(
                name=ProcessName("router"),
                kind=Kind.FRONTEND,
                argv=fill_argv((*start.argv, *shape), words, each),
                env=self._env(start, ()),
                without_lmcache=OffForm.SAME,
                listens=(
                    Listen(purpose="http", host=frontend.host, port=frontend.port),
                    Listen(purpose="metrics", host=LOOPBACK, port=metrics_port),
                ),
                after=tuple(worker.name for worker in workers),
                ready=_ready(start, reachable(frontend.host), frontend.port),
                metrics=url_of(LOOPBACK, metrics_port, start.metrics_path),
                memory=Memory(host_bytes=0, gpu_fraction=0.0),
                stop_s=start.stop_s,
            ),
        )

    def _env(self, start: Start, gpus: tuple[str, ...]) -> dict[str, str]:
        skeleton = {**self.stack.env, **self.platform.env, **start.env}
        env = {name: text_of(fill(value, self.words)) for name, value in skeleton.items()}
        if self.topology.accelerator is Accelerator.CUDA:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        return dict(sorted(env.items()))


def reachable(host: str) -> str:
    """Give the address at which a listener on `host` is reached from the same host."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _gpu_fraction(seat: WorkerSeat, platform: Platform) -> float:
    given = seat.group.engine_args.get("gpu_memory_utilization")
    return float(given) if isinstance(given, (int, float)) else platform.gpu_memory_utilization


def _ready(start: Start, host: str, port: int, timeout_s: int | None = None) -> Ready:
    return Ready(
        url=url_of(host, port, start.ready_path),
        host=host,
        port=port,
        path=start.ready_path,
        timeout_s=timeout_s or start.ready_timeout_s,
    )


def url_of(host: str, port: int, path: str) -> str:
    """Write an HTTP URL; an IPv6 host goes in brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"


def _fields(launch: Launch) -> dict[str, Any]:
    """Give a launch's fields, which a process has too."""
    return {item.name: getattr(launch, item.name) for item in fields(launch)}
