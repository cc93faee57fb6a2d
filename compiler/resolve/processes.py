"""Build every process of a laid-out topology from its stack's skeletons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from compiler.document import Json
from compiler.plan import (
    API_KEY,
    Kind,
    Launch,
    Listen,
    Memory,
    OffForm,
    Process,
    ProcessName,
    Ready,
)
from compiler.resolve.allocation import CacheSeat, Layout, Port, WorkerSeat
from compiler.resolve.discovery import discovery_env, discovery_words
from compiler.resolve.redis_store import store_process
from compiler.resolve.tiers import ProcessTiers, process_tiers
from compiler.resolve.workers import LOOPBACK, WorkerForms, process_env
from compiler.stacks.conditions import DEFAULT_ROUTING, settings
from compiler.stacks.placeholders import fill, fill_argv
from compiler.stacks.stack import Platform, Stack, Start
from compiler.topology import Accelerator, CacheMode, Role, Topology

GIB = 1 << 30
L2_ADAPTER = "--l2-adapter"  # JSON, once for each tier; lmcache 0.5.6 l2_adapters/config.py
PROBE_TOKEN = 10  # every vocabulary has it
_SWITCH_WORDS = {"chunk_size": "LMCACHE_CHUNK_SIZE", "cpu_cache_gb": "LMCACHE_MAX_LOCAL_CPU_SIZE"}


class ProcessBuilder:
    """One topology on one stack."""

    def __init__(self, topology: Topology, stack: Stack, layout: Layout) -> None:
        self.topology = topology
        self.stack = stack
        self.layout = layout
        self.platform: Platform = stack.platforms[topology.accelerator.value]
        folder = f"{topology.deploy.prefix.rstrip('/')}/stacks/{stack.name}/bin"
        chunk: list[Json] = [PROBE_TOKEN] * topology.lmcache.chunk_size
        self.words: dict[str, Json] = {
            "bin": folder,
            "python": f"{folder}/python",
            "name": topology.name,
            "model": topology.model.id,
            "served_name": topology.model.served_name or topology.model.id,
            "max_len": topology.model.max_len,
            "chunk_size": topology.lmcache.chunk_size,
            "chunk_prompt": chunk,
            "probe_prompt": chunk if topology.lmcache.enabled else "Hello",
            "cpu_cache_gb": topology.lmcache.cpu_cache_gb,
            "drain_s": topology.deploy.drain_s,
            **discovery_words(topology),
        }
        cache_ports = {seat.name: seat.port for seat in layout.caches}
        self.store = layout.store
        store_port = layout.store.port if layout.store else 0
        self.tiers = {
            name: process_tiers(topology, stack, name, store_port) for name in self._caching()
        }
        self.forms = WorkerForms(topology, stack, self.words, cache_ports, self.tiers)

    def _caching(self) -> tuple[ProcessName, ...]:
        """Name the processes that cache: the servers, or the workers that do it themselves."""
        if self.topology.lmcache.mode is CacheMode.MULTIPROCESS:
            return tuple(seat.name for seat in self.layout.caches)
        return tuple(seat.name for seat in self.layout.workers if seat.uses_lmcache)

    def processes(self) -> tuple[Process, ...]:
        """Give all processes in a start order: store, cache servers, workers, frontend."""
        stores = (store_process(self.store),) if self.store else ()
        caches = tuple(self._cache(seat) for seat in self.layout.caches)
        workers = self._workers()
        return (*stores, *caches, *workers, *self._frontend(workers))

    def _cache(self, seat: CacheSeat) -> Process:
        start, tiers = self.stack.starts["cache_server"], self.tiers[seat.name]
        words = {**self.words, "cache_port": seat.port, "http_port": seat.http_port}
        skeleton = (*start.argv, *self.platform.cache_server_argv)
        env = process_env(self.topology, self.stack, start, seat.gpus, words)
        added = (word for text in tiers.adapters for word in (L2_ADAPTER, text))
        return Process(
            name=seat.name,
            kind=Kind.CACHE_SERVER,
            gpus=seat.gpus,
            argv=(*fill_argv(skeleton, words), *added),
            env=dict(sorted({**env, **tiers.env}.items())),
            without_lmcache=OffForm.NOT_STARTED,
            secrets=tiers.secrets,
            switch_argv={
                variable: skeleton.index(f"{{{word}}}") for word, variable in _SWITCH_WORDS.items()
            },
            listens=(
                Listen(purpose="lmcache", host=LOOPBACK, port=seat.port),
                Listen(purpose="http", host=LOOPBACK, port=seat.http_port),
            ),
            after=self._stores(),
            ready=_ready(start, LOOPBACK, seat.http_port, words),
            metrics=_metrics(start, LOOPBACK, words),
            memory=Memory(
                host_bytes=int(self.topology.lmcache.cpu_cache_gb * GIB), gpu_fraction=0.0
            ),
            tiers=tiers.tiers,
            stop_s=start.stop_s,
        )

    def _stores(self) -> tuple[ProcessName, ...]:
        return (self.store.name,) if self.store else ()

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
        built = self.forms.launch(seat, uses_lmcache=seat.uses_lmcache)
        off = self.forms.launch(seat, uses_lmcache=False) if seat.uses_lmcache else OffForm.SAME
        listens = [Listen(purpose="http", host=seat.host, port=seat.port)]
        if seat.side_channel_port is not None:
            listens.append(
                Listen(purpose="nixl_side_channel", host=LOOPBACK, port=seat.side_channel_port)
            )
        listens += _listens(seat.ports)
        key_file = topology.frontend.api_key_file
        tiers = self.tiers.get(seat.name, ProcessTiers())
        switches = (*_SWITCH_WORDS.values(), *(("LMCACHE_LOCAL_CPU",) if tiers.tiers else ()))
        return Process(
            **_fields(built),
            name=seat.name,
            kind=Kind.WORKER,
            role=seat.group.role,
            gpus=seat.gpus,
            without_lmcache=off,
            secrets={**({API_KEY: key_file} if key_file else {}), **tiers.secrets},
            switch_env=switches if in_process else (),
            listens=tuple(listens),
            after=(
                *((seat.cache,) if seat.cache else ()),
                *(self._stores() if in_process else ()),
                *earlier,
            ),
            ready=self._worker_ready(seat),
            metrics=_metrics(start, reachable(seat.host), {"port": seat.port}),
            memory=self._memory(seat, in_process),
            tiers=tiers.tiers,
            stop_s=start.stop_s + topology.deploy.drain_s,
        )

    def _worker_ready(self, seat: WorkerSeat) -> Ready:
        topology, start = self.topology, self.stack.starts["worker"]
        ready = _ready(
            start, reachable(seat.host), seat.port, self.words, topology.deploy.ready_timeout_s
        )
        held = settings(topology, self.stack, seat.group, lmcache=seat.uses_lmcache)
        for probe in (setting.ready for setting in held if setting.ready):
            ready = replace(
                ready,
                url=url_of(ready.host, ready.port, probe.path),
                path=probe.path,
                body=json.dumps(fill(probe.body, self.words)),
                key_file=topology.frontend.api_key_file or "",
            )
        return ready

    def _memory(self, seat: WorkerSeat, in_process: bool) -> Memory:
        ranks = seat.group.tensor_parallel_size  # each has memory of its own for both
        cache = self.topology.lmcache.cpu_cache_gb * ranks * GIB
        on_cpu = self.topology.accelerator is Accelerator.CPU
        kv_gib = seat.group.env.get("VLLM_CPU_KVCACHE_SPACE", "0") if on_cpu else "0"
        return Memory(
            host_bytes=int(cache if in_process else 0) + int(_number(kv_gib) * ranks * GIB),
            gpu_fraction=0.0 if on_cpu else _gpu_fraction(seat, self.platform),
        )

    def _frontend(self, workers: tuple[Process, ...]) -> tuple[Process, ...]:
        topology, ports = self.topology, self.layout.frontend_ports
        if ports is None:
            return ()
        start, frontend = self.stack.starts["frontend"], topology.frontend
        words = {
            **self.words,
            "host": frontend.host,
            "port": frontend.port,
            "policy": self.stack.routing[frontend.routing or DEFAULT_ROUTING],
            **{port.word: port.port for port in ports},
        }
        shape = self.stack.frontend.argv[topology.arrangement.value]
        env = process_env(topology, self.stack, start, (), words)
        env.update(discovery_env(topology, self.stack, words))
        return (
            Process(
                name=ProcessName(self.stack.frontend.name),
                kind=Kind.FRONTEND,
                argv=fill_argv((*start.argv, *shape), words, _urls(workers)),
                env=dict(sorted(env.items())),
                without_lmcache=OffForm.SAME,
                listens=(
                    Listen(purpose="http", host=frontend.host, port=frontend.port),
                    *_listens(ports),
                ),
                after=tuple(worker.name for worker in workers),
                ready=_ready(start, reachable(frontend.host), frontend.port, words),
                metrics=_metrics(start, reachable(frontend.host), words),
                memory=Memory(host_bytes=0, gpu_fraction=0.0),
                stop_s=start.stop_s,
            ),
        )


def _urls(workers: tuple[Process, ...]) -> dict[str, tuple[Mapping[str, Json], ...]]:
    """Give the words of each worker, by role, for a frontend that is told where its workers are."""
    return {
        role.value: tuple(
            {"url": f"http://{LOOPBACK}:{worker.listens[0].port}"}
            for worker in workers
            if worker.role is role
        )
        for role in Role
    }


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


def _ready(
    start: Start, host: str, port: int, words: Mapping[str, Json], timeout_s: int | None = None
) -> Ready:
    body = fill(start.ready_body, words)
    return Ready(
        url=url_of(host, port, start.ready_path),
        host=host,
        port=port,
        path=start.ready_path,
        body="" if body is None else json.dumps(body),
        timeout_s=timeout_s or start.ready_timeout_s,
    )


def _metrics(start: Start, host: str, words: Mapping[str, Json]) -> str:
    port = words[start.metrics_port]
    return url_of(host, port if isinstance(port, int) else 0, start.metrics_path)


def _listens(ports: tuple[Port, ...]) -> list[Listen]:
    return [Listen(purpose=item.use.purpose, host=item.use.host, port=item.port) for item in ports]


def url_of(host: str, port: int, path: str) -> str:
    """Write an HTTP URL; an IPv6 host goes in brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"


def _fields(launch: Launch) -> dict[str, Any]:
    """Give a launch's fields, which a process has too."""
    return {item.name: getattr(launch, item.name) for item in fields(launch)}
