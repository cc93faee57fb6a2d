"""Build the forms of a worker from its stack's skeletons: with LMCache, and without."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.addresses import LOOPBACK
from compiler.bundle_paths import engine_file, lmcache_file
from compiler.document import Json, Path
from compiler.process import KvSource, Launch, ProcessName
from compiler.resolve.allocation import WorkerSlot
from compiler.resolve.conditions import WorkerSettings, case_env
from compiler.resolve.connectors import (
    cache_connector,
    connector_argv,
    kv_transfer_config,
    loses_hybrid_manager,
)
from compiler.resolve.discovery import discovery_skeleton
from compiler.resolve.prefilled import Prefilled, PrefilledTexts, PrefilledWords
from compiler.resolve.tiers import ProcessTiers, join
from compiler.stacks.placeholders import fill, text_of
from compiler.stacks.stack import ProcessSpec, Setting, Stack
from compiler.topology import Accelerator, CacheMode, Topology, WorkerGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """What one form of all workers of a kind has in common.

    plain_env is laid over env as it is written: the profile's own may have braces.
    """

    argv: PrefilledWords
    env: PrefilledTexts
    plain_env: Mapping[str, str]
    engine_args: Prefilled
    kv_transfer_config: Prefilled
    lmcache_config: Prefilled


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
        self.settings = WorkerSettings(topology, stack)
        self._given: dict[Path, dict[str, Json]] = {}
        self._forms: dict[tuple[str, bool], _Form] = {}
        self._without_manager = loses_hybrid_manager(topology, stack) or None

    def launch(self, slot: WorkerSlot, *, uses_lmcache: bool) -> Launch:
        """Return one form of a worker."""
        stack, is_in_process = self.stack, self.topology.lmcache.mode is CacheMode.IN_PROCESS
        own = self._own_values(slot, is_off_form=slot.uses_lmcache and not uses_lmcache)
        values = {**self.values, **own}
        form = self._form(slot, values, frozenset(own), uses_lmcache=uses_lmcache)
        has_tiers = uses_lmcache and is_in_process
        tiers = self.tiers.get(slot.name, ProcessTiers()) if has_tiers else ProcessTiers()
        return Launch(
            argv=form.argv.filled(values),
            env=_env(form.env.filled(values), form.plain_env, tiers.env, slot.group.env),
            engine_args=self._engine_args(slot, form, values),
            kv_transfer_config=form.kv_transfer_config.filled(values),
            kv_source=KvSource.COMMAND if stack.connectors.command else KvSource.ENGINE_FILE,
            lmcache_config=join(form.lmcache_config.filled(values), tiers.config),
        )

    def _own_values(self, slot: WorkerSlot, *, is_off_form: bool) -> dict[str, Json]:
        """Return the words that workers may have for themselves."""
        return {
            "host": slot.host,
            "port": slot.port,
            "tensor_parallel_size": slot.group.tensor_parallel_size,
            "without_hybrid_manager": self._without_manager,
            "cache_port": self.cache_ports[slot.cache] if slot.cache else 0,
            "worker": slot.name,
            "engine_file": engine_file(slot.name, with_lmcache=not is_off_form),
            "gpu_list": ",".join(slot.gpus),
            "side_channel_port": slot.side_channel_port,
            "lmcache_file": lmcache_file(slot.name),
            **{port.word: port.port for port in slot.ports},
        }

    def _form(
        self,
        slot: WorkerSlot,
        values: Mapping[str, Json],
        own: frozenset[str],
        *,
        uses_lmcache: bool,
    ) -> _Form:
        """Return what a form of a worker has in common with those of its kind."""
        key = self.settings.kind(slot.group), uses_lmcache
        if key not in self._forms:
            self._forms[key] = self._form_of_kind(slot, values, own, uses_lmcache=uses_lmcache)
        return self._forms[key]

    def _form_of_kind(
        self,
        slot: WorkerSlot,
        values: Mapping[str, Json],
        own: frozenset[str],
        *,
        uses_lmcache: bool,
    ) -> _Form:
        stack, topology, group = self.stack, self.topology, slot.group
        applied = self.settings.of(group, lmcache=uses_lmcache)
        platform, start = stack.platforms[topology.accelerator.value], stack.starts["worker"]
        mode = topology.lmcache.mode
        cache = cache_connector(stack, mode) if uses_lmcache else None
        config = kv_transfer_config(topology, stack, group.role, cache)
        engine_args = dict(stack.engine_args)
        for setting in applied:
            engine_args.update(setting.engine_args)
        added = (item for setting in applied for item in setting.argv)
        argv = (*platform.worker_argv, *added, *connector_argv(stack, config), *start.argv)
        has_file = uses_lmcache and mode is CacheMode.IN_PROCESS
        has_nixl = slot.side_channel_port is not None
        env = self._env_of_kind(applied, has_nixl=has_nixl, has_file=has_file)
        return _Form(
            argv=PrefilledWords(argv, values, own),
            env=PrefilledTexts(dict(sorted(env.items())), values, own),
            plain_env={
                **(platform.transfer_env if has_nixl else {}),
                **(case_env(topology, stack, group) if uses_lmcache else {}),
            },
            engine_args=Prefilled(engine_args, values, own),
            kv_transfer_config=Prefilled(config, values, own),
            lmcache_config=Prefilled(dict(stack.lmcache_config) if has_file else {}, values, own),
        )

    def _env_of_kind(
        self, applied: tuple[Setting, ...], *, has_nixl: bool, has_file: bool
    ) -> dict[str, Json]:
        """Return the environment of a kind of worker as a skeleton."""
        stack, topology = self.stack, self.topology
        platform, start = stack.platforms[topology.accelerator.value], stack.starts["worker"]
        env: dict[str, Json] = {**stack.env, **platform.env, **start.env}
        if topology.accelerator is Accelerator.CUDA:
            env["CUDA_VISIBLE_DEVICES"] = "{gpu_list}"
        env.update(discovery_skeleton(topology, stack))
        for setting in applied:
            env.update(setting.env)
        if has_nixl:
            env[stack.side_channel["host_variable"]] = LOOPBACK
            env[stack.side_channel["port_variable"]] = "{side_channel_port}"
        if has_file and stack.lmcache_config:
            env["LMCACHE_CONFIG_FILE"] = "{lmcache_file}"
        return env

    def _engine_args(
        self, slot: WorkerSlot, form: _Form, values: Mapping[str, Json]
    ) -> dict[str, Json]:
        filled = form.engine_args.filled(values)
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


def _env(env: Mapping[str, str], *plain: Mapping[str, str]) -> Mapping[str, str]:
    """Return an environment with others laid over it; shared where there are none."""
    if not any(plain):
        return env
    return dict(sorted({**env, **{k: v for one in plain for k, v in one.items()}}.items()))


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
