"""Build the forms of a worker from its stack's skeletons: with LMCache, and without."""

from __future__ import annotations

import json
from collections.abc import Mapping

from compiler.addresses import LOOPBACK
from compiler.bundle_paths import engine_file, lmcache_file
from compiler.document import Json, Path
from compiler.process import KvSource, Launch, ProcessName
from compiler.resolve.allocation import WorkerSlot
from compiler.resolve.conditions import case_env, settings
from compiler.resolve.connectors import (
    cache_connector,
    connector_argv,
    kv_transfer_config,
    loses_hybrid_manager,
)
from compiler.resolve.discovery import discovery_env
from compiler.resolve.tiers import ProcessTiers, join
from compiler.stacks.placeholders import fill, fill_argv, text_of
from compiler.stacks.stack import ProcessSpec, Setting, Stack
from compiler.topology import Accelerator, CacheMode, Topology, WorkerGroup


class WorkerBuilder:
    """The workers of one topology on one stack; words are those that all processes share."""

    def __init__(
        self,
        topology: Topology,
        stack: Stack,
        values: Mapping[str, Json],
        cache_ports: Mapping[ProcessName, int],
        tiers: Mapping[ProcessName, ProcessTiers],
    ) -> None:
        self.topology = topology
        self.stack = stack
        self.values = values
        self.cache_ports = cache_ports
        self.tiers = tiers
        self._given: dict[Path, dict[str, Json]] = {}

    def launch(self, slot: WorkerSlot, *, uses_lmcache: bool) -> Launch:
        """Return one form of a worker."""
        stack, topology = self.stack, self.topology
        values = self._values(slot, is_off_form=slot.uses_lmcache and not uses_lmcache)
        cache = cache_connector(stack, topology.lmcache.mode, values) if uses_lmcache else None
        config = kv_transfer_config(topology, stack, slot.group.role, cache)
        applied = list(settings(topology, stack, slot.group, lmcache=uses_lmcache))
        start = stack.starts["worker"]
        platform = stack.platforms[topology.accelerator.value]
        added = (item for setting in applied for item in setting.argv)
        in_process = uses_lmcache and topology.lmcache.mode is CacheMode.IN_PROCESS
        lmcache_config = fill(dict(stack.lmcache_config), values) if in_process else {}
        tiers = self.tiers.get(slot.name, ProcessTiers()) if in_process else ProcessTiers()
        return Launch(
            argv=fill_argv(
                (*platform.worker_argv, *added, *connector_argv(stack, config), *start.argv), values
            ),
            env=self._env(slot, applied, values, tiers, uses_lmcache=uses_lmcache),
            engine_args=self._engine_args(slot, applied, values),
            kv_transfer_config=config,
            kv_source=KvSource.COMMAND if stack.connectors.command else KvSource.ENGINE_FILE,
            lmcache_config=join(
                lmcache_config if isinstance(lmcache_config, dict) else {}, tiers.config
            ),
        )

    def _values(self, slot: WorkerSlot, *, is_off_form: bool) -> dict[str, Json]:
        topology = self.topology
        return {
            **self.values,
            "host": slot.host,
            "port": slot.port,
            "tensor_parallel_size": slot.group.tensor_parallel_size,
            "without_hybrid_manager": loses_hybrid_manager(topology, self.stack) or None,
            "cache_port": self.cache_ports[slot.cache] if slot.cache else 0,
            "worker": slot.name,
            "engine_file": engine_file(slot.name, with_lmcache=not is_off_form),
            **{port.word: port.port for port in slot.ports},
        }

    def _env(
        self,
        slot: WorkerSlot,
        applied: list[Setting],
        values: Mapping[str, Json],
        tiers: ProcessTiers,
        *,
        uses_lmcache: bool,
    ) -> dict[str, str]:
        stack, topology = self.stack, self.topology
        env = process_env(topology, stack, stack.starts["worker"], slot.gpus, values)
        env.update(discovery_env(topology, stack, values))
        for setting in applied:
            env.update({name: text_of(fill(value, values)) for name, value in setting.env.items()})
        if slot.side_channel_port is not None:
            env[stack.side_channel["host_variable"]] = LOOPBACK
            env[stack.side_channel["port_variable"]] = str(slot.side_channel_port)
            env.update(stack.platforms[topology.accelerator.value].transfer_env)
        if uses_lmcache:
            if topology.lmcache.mode is CacheMode.IN_PROCESS and stack.lmcache_config:
                env["LMCACHE_CONFIG_FILE"] = lmcache_file(slot.name)
            env.update(case_env(topology, stack, slot.group))
        env.update(tiers.env)
        env.update(slot.group.env)
        return dict(sorted(env.items()))

    def _engine_args(
        self, slot: WorkerSlot, applied: list[Setting], values: Mapping[str, Json]
    ) -> dict[str, Json]:
        template = dict(self.stack.engine_args)
        for setting in applied:
            template.update(setting.engine_args)
        filled = {name: fill(value, values) for name, value in template.items()}
        arguments: dict[str, Json] = {
            name: self._in_file(name, value) for name, value in filled.items() if value is not None
        }
        arguments.update(self._given_engine_args(slot.group))
        return arguments

    def _given_engine_args(self, group: WorkerGroup) -> dict[str, Json]:
        """Return the profile's engine_args in the form that the engine's file can hold.

        Replicas share it: written for each anew, a long value would be thousands.
        """
        if group.origin.path in self._given:
            return self._given[group.origin.path]
        given = self._given[group.origin.path] = {}
        for name, value in group.engine_args.items():
            if value is not False or self.stack.engine_options[name].negatable:
                given[name] = self._in_file(name, value)
        return given

    def _in_file(self, name: str, value: Json) -> Json:
        option = self.stack.engine_options[name]
        is_text = isinstance(value, dict) and not self.stack.nested_engine_file
        if is_text or (option.json == "array" and isinstance(value, list)):
            return json.dumps(value, ensure_ascii=False)
        return value


def process_env(
    topology: Topology,
    stack: Stack,
    start: ProcessSpec,
    gpus: tuple[str, ...],
    values: Mapping[str, Json],
) -> dict[str, str]:
    """Return the environment that a process has whatever it does: the stack's, and its GPUs."""
    platform = stack.platforms[topology.accelerator.value]
    template = {**stack.env, **platform.env, **start.env}
    env = {name: text_of(fill(value, values)) for name, value in template.items()}
    if topology.accelerator is Accelerator.CUDA:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return dict(sorted(env.items()))
