"""Build every process of a laid-out topology from its stack's skeletons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from compiler.addresses import LOOPBACK, http_url, reachable
from compiler.byte_units import GIB
from compiler.document import Json
from compiler.process import (
    API_KEY,
    Kind,
    Launch,
    Listen,
    Memory,
    Process,
    ProcessName,
    Ready,
    WithoutLmcache,
)
from compiler.resolve.allocation import Allocation, CacheSlot, Port, WorkerSlot
from compiler.resolve.conditions import DEFAULT_ROUTING
from compiler.resolve.discovery import discovery_env, discovery_values
from compiler.resolve.kv_events import event_listens
from compiler.resolve.proxy import proxy_process
from compiler.resolve.redis_store import store_process
from compiler.resolve.secret_env import of_caches, of_frontend, of_workers, with_secrets
from compiler.resolve.tiers import ProcessTiers, process_tiers
from compiler.resolve.workers import WorkerBuilder, process_env
from compiler.stacks.placeholders import fill, fill_argv
from compiler.stacks.stack import Platform, ProcessSpec, Stack
from compiler.topology import Accelerator, CacheMode, Role, Topology

L2_ADAPTER = "--l2-adapter"  # JSON, once for each tier; lmcache 0.5.6 l2_adapters/config.py
PROBE_TOKEN = 10  # every vocabulary has it
_SWITCH_WORDS = {"chunk_size": "LMCACHE_CHUNK_SIZE", "cpu_cache_gb": "LMCACHE_MAX_LOCAL_CPU_SIZE"}


class ProcessBuilder:
    """One topology on one stack."""

    def __init__(self, topology: Topology, stack: Stack, allocation: Allocation) -> None:
        self.topology = topology
        self.stack = stack
        self.allocation = allocation
        self.platform: Platform = stack.platforms[topology.accelerator.value]
        folder = f"{topology.deploy.prefix.rstrip('/')}/stacks/{stack.name}/bin"
        chunk: list[Json] = [PROBE_TOKEN] * topology.lmcache.chunk_size
        self.values: dict[str, Json] = {
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
            **discovery_values(topology),
        }
        cache_ports = {slot.name: slot.port for slot in allocation.caches}
        self.store = allocation.store
        store_port = allocation.store.port if allocation.store else 0
        self.tiers = {
            name: process_tiers(topology, stack, name, store_port) for name in self._caching()
        }
        self.workers = WorkerBuilder(topology, stack, self.values, cache_ports, self.tiers)
        self._probes: dict[tuple[str, bool], tuple[str, str, bool]] = {}

    def _caching(self) -> tuple[ProcessName, ...]:
        """Name the processes that cache: the servers, or the workers that do it themselves."""
        if self.topology.lmcache.mode is CacheMode.MULTIPROCESS:
            return tuple(slot.name for slot in self.allocation.caches)
        return tuple(slot.name for slot in self.allocation.workers if slot.uses_lmcache)

    def processes(self) -> tuple[Process, ...]:
        """Return all processes in a start order: store, cache servers, workers, what is before."""
        stores = (store_process(self.store),) if self.store else ()
        topology = self.topology
        alone = self.allocation.frontend is None
        of_cache = of_caches(topology)
        caches = (self._cache(slot) for slot in self.allocation.caches)
        workers = tuple(
            with_secrets(worker, of_workers(topology, slot.group, serves_clients=alone))
            for worker, slot in zip(self._workers(), self.allocation.workers, strict=True)
        )
        front = tuple(with_secrets(it, of_frontend(topology)) for it in self._frontend(workers))
        port = self.allocation.proxy_port
        api = (*workers, *front)[-1]
        return (
            *stores,
            *(with_secrets(cache, of_cache) for cache in caches),
            *workers,
            *front,
            *(() if port is None else (proxy_process(topology, api.name, port),)),
        )

    def _cache(self, slot: CacheSlot) -> Process:
        start, tiers = self.stack.starts["cache_server"], self.tiers[slot.name]
        values = {**self.values, "cache_port": slot.port, "http_port": slot.http_port}
        template = (*start.argv, *self.platform.cache_server_argv)
        env = process_env(self.topology, self.stack, start, slot.gpus, values)
        added = (word for text in tiers.adapters for word in (L2_ADAPTER, text))
        return Process(
            name=slot.name,
            kind=Kind.CACHE_SERVER,
            gpus=slot.gpus,
            launch=Launch(
                argv=(*fill_argv(template, values), *added),
                env=dict(sorted({**env, **tiers.env}.items())),
            ),
            without_lmcache=WithoutLmcache.NOT_STARTED,
            secrets=tiers.secrets,
            switch_argv={
                variable: template.index(f"{{{word}}}") for word, variable in _SWITCH_WORDS.items()
            },
            listens=(
                Listen(purpose="lmcache", host=LOOPBACK, port=slot.port),
                Listen(purpose="http", host=LOOPBACK, port=slot.http_port),
            ),
            after=self._stores(),
            ready=_ready(start, LOOPBACK, slot.http_port, values),
            metrics=_metrics(start, LOOPBACK, values),
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
        for slot in self.allocation.workers:
            # Two engines that size their KV at the same moment on one GPU both mis-size it.
            earlier = dict.fromkeys(last_on[gpu] for gpu in slot.gpus if gpu in last_on)
            workers.append(self._worker(slot, tuple(earlier)))
            last_on.update(dict.fromkeys(slot.gpus, slot.name))
        return tuple(workers)

    def _worker(self, slot: WorkerSlot, earlier: tuple[ProcessName, ...]) -> Process:
        topology, start = self.topology, self.stack.starts["worker"]
        in_process = slot.uses_lmcache and topology.lmcache.mode is CacheMode.IN_PROCESS
        built = self.workers.launch(slot, uses_lmcache=slot.uses_lmcache)
        off = (
            self.workers.launch(slot, uses_lmcache=False)
            if slot.uses_lmcache
            else WithoutLmcache.SAME
        )
        listens = [Listen(purpose="http", host=slot.host, port=slot.port)]
        if slot.side_channel_port is not None:
            listens.append(
                Listen(purpose="nixl_side_channel", host=LOOPBACK, port=slot.side_channel_port)
            )
        listens += [*_listens(slot.ports), *event_listens(slot.group)]
        key_file = self._key_file()
        tiers = self.tiers.get(slot.name, ProcessTiers())
        switches = (*_SWITCH_WORDS.values(), *(("LMCACHE_LOCAL_CPU",) if tiers.tiers else ()))
        return Process(
            name=slot.name,
            kind=Kind.WORKER,
            role=slot.group.role,
            gpus=slot.gpus,
            launch=built,
            without_lmcache=off,
            secrets={**({API_KEY: key_file} if key_file else {}), **tiers.secrets},
            switch_env=switches if in_process else (),
            listens=tuple(listens),
            after=(
                *((slot.cache,) if slot.cache else ()),
                *(self._stores() if in_process else ()),
                *earlier,
            ),
            ready=self._worker_ready(slot),
            metrics=_metrics(start, reachable(slot.host), {"port": slot.port}),
            memory=self._memory(slot, in_process),
            tiers=tiers.tiers,
            stop_s=start.stop_s + topology.deploy.drain_s,
        )

    def _key_file(self) -> str:
        """Return the file of the key that workers ask for: where that of the clients gets there."""
        passes = self.topology.kind.value in self.stack.frontend.passes_key
        return (self.topology.frontend.api_key_file or "") if passes else ""

    def _worker_ready(self, slot: WorkerSlot) -> Ready:
        topology, start, host = self.topology, self.stack.starts["worker"], reachable(slot.host)
        path, body, asks_key = self._probe(slot)
        return Ready(
            url=http_url(host, slot.port, path),
            host=host,
            port=slot.port,
            path=path,
            body=body,
            key_file=self._key_file() if asks_key else "",
            timeout_s=topology.deploy.ready_timeout_s or start.ready_timeout_s,
        )

    def _probe(self, slot: WorkerSlot) -> tuple[str, str, bool]:
        """Return where and with what a kind of worker is asked, and whether a key goes along."""
        key = self.workers.settings.kind(slot.group), slot.uses_lmcache
        if key not in self._probes:
            start = self.stack.starts["worker"]
            body = fill(start.ready_body, self.values)
            found = start.ready_path, "" if body is None else json.dumps(body), False
            applied = self.workers.settings.of(slot.group, lmcache=slot.uses_lmcache)
            for probe in (setting.ready for setting in applied if setting.ready):
                found = probe.path, json.dumps(fill(probe.body, self.values)), True
            self._probes[key] = found
        return self._probes[key]

    def _memory(self, slot: WorkerSlot, in_process: bool) -> Memory:
        ranks = slot.group.tensor_parallel_size  # each has memory of its own for both
        cache = self.topology.lmcache.cpu_cache_gb * ranks * GIB
        on_cpu = self.topology.accelerator is Accelerator.CPU
        kv_gib = slot.group.env.get("VLLM_CPU_KVCACHE_SPACE", "0") if on_cpu else "0"
        return Memory(
            host_bytes=int(cache if in_process else 0) + int(_number(kv_gib) * ranks * GIB),
            gpu_fraction=0.0 if on_cpu else _gpu_fraction(slot, self.platform),
        )

    def _frontend(self, workers: tuple[Process, ...]) -> tuple[Process, ...]:
        topology, slot = self.topology, self.allocation.frontend
        if slot is None:
            return ()
        start, host = self.stack.starts["frontend"], reachable(slot.host)
        values = {
            **self.values,
            "host": slot.host,
            "port": slot.port,
            "policy": self.stack.routing[topology.frontend.routing or DEFAULT_ROUTING],
            **{port.word: port.port for port in slot.ports},
        }
        ready = _ready(start, host, slot.port, values)
        shape = self.stack.frontend.argv[topology.kind.value]
        env = process_env(topology, self.stack, start, (), values)
        env.update(discovery_env(topology, self.stack, values))
        return (
            Process(
                name=ProcessName(self.stack.frontend.name),
                kind=Kind.FRONTEND,
                launch=Launch(
                    argv=fill_argv((*start.argv, *shape), values, _urls(workers)),
                    env=dict(sorted(env.items())),
                ),
                without_lmcache=WithoutLmcache.SAME,
                listens=(
                    Listen(purpose="http", host=slot.host, port=slot.port),
                    *_listens(slot.ports),
                ),
                after=tuple(worker.name for worker in workers),
                ready=replace(ready, key_file=self._key_file()) if ready.body else ready,
                metrics=_metrics(start, host, values),
                memory=Memory(host_bytes=0, gpu_fraction=0.0),
                stop_s=start.stop_s,
            ),
        )


def _urls(workers: tuple[Process, ...]) -> dict[str, tuple[Mapping[str, Json], ...]]:
    """Return each worker's values, by role, for a frontend that is told where its workers are."""
    return {
        role.value: tuple(
            {"url": f"http://{LOOPBACK}:{worker.listens[0].port}"}
            for worker in workers
            if worker.role is role
        )
        for role in Role
    }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _gpu_fraction(slot: WorkerSlot, platform: Platform) -> float:
    given = slot.group.engine_args.get("gpu_memory_utilization")
    return float(given) if isinstance(given, (int, float)) else platform.gpu_memory_utilization


def _ready(start: ProcessSpec, host: str, port: int, values: Mapping[str, Json]) -> Ready:
    body = fill(start.ready_body, values)
    return Ready(
        url=http_url(host, port, start.ready_path),
        host=host,
        port=port,
        path=start.ready_path,
        body="" if body is None else json.dumps(body),
        timeout_s=start.ready_timeout_s,
    )


def _metrics(start: ProcessSpec, host: str, values: Mapping[str, Json]) -> str:
    port = values[start.metrics_port]
    return http_url(host, port if isinstance(port, int) else 0, start.metrics_path)


def _listens(ports: tuple[Port, ...]) -> list[Listen]:
    return [Listen(purpose=item.use.purpose, host=item.use.host, port=item.port) for item in ports]
