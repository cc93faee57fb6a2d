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
from compiler.resolve.conditions import case_env, settings
from compiler.resolve.connectors import (
    cache_connector,
    connector_argv,
    kv_transfer_config,
    loses_hybrid_manager,
)
from compiler.resolve.discovery import discovery_env
from compiler.resolve.prefilled import Prefilled, PrefilledTexts
from compiler.resolve.tiers import ProcessTiers, join
from compiler.stacks.placeholders import fill, fill_argv, text_of
from compiler.stacks.stack import ProcessSpec, Setting, Stack
from compiler.topology import Accelerator, CacheMode, Topology, WorkerGroup

_OWN_WORDS = frozenset({"host", "port", "cache_port", "engine_file"})
"""What differs among workers that are alike, besides the ports that a stack asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """What one form of all workers of a kind has in common."""

    applied: tuple[Setting, ...]
    env: PrefilledTexts
    setting_env: PrefilledTexts
    case_env: Mapping[str, str]
    engine_args: Prefilled


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
        self._kinds: dict[int, str] = {}
        self._forms: dict[tuple[str, bool], _Form] = {}
        self._applied: dict[tuple[str, bool], tuple[Setting, ...]] = {}
        self._without_manager = loses_hybrid_manager(topology, stack) or None

    def launch(self, slot: WorkerSlot, *, uses_lmcache: bool) -> Launch:
        """Return one form of a worker."""
        stack, topology = self.stack, self.topology
        values = self._values(slot, is_off_form=slot.uses_lmcache and not uses_lmcache)
        cache = cache_connector(stack, topology.lmcache.mode, values) if uses_lmcache else None
        config = kv_transfer_config(topology, stack, slot.group.role, cache)
        form = self._form(slot, values, uses_lmcache=uses_lmcache)
        start = stack.starts["worker"]
        platform = stack.platforms[topology.accelerator.value]
        added = (item for setting in form.applied for item in setting.argv)
        in_process = uses_lmcache and topology.lmcache.mode is CacheMode.IN_PROCESS
        lmcache_config = fill(dict(stack.lmcache_config), values) if in_process else {}
        tiers = self.tiers.get(slot.name, ProcessTiers()) if in_process else ProcessTiers()
        return Launch(
            argv=fill_argv(
                (*platform.worker_argv, *added, *connector_argv(stack, config), *start.argv), values
            ),
            env=self._env(slot, form, values, tiers, uses_lmcache=uses_lmcache),
            engine_args=self._engine_args(slot, form, values),
            kv_transfer_config=config,
            kv_source=KvSource.COMMAND if stack.connectors.command else KvSource.ENGINE_FILE,
            lmcache_config=join(
                lmcache_config if isinstance(lmcache_config, dict) else {}, tiers.config
            ),
        )

    def _values(self, slot: WorkerSlot, *, is_off_form: bool) -> dict[str, Json]:
        return {
            **self.values,
            "host": slot.host,
            "port": slot.port,
            "tensor_parallel_size": slot.group.tensor_parallel_size,
            "without_hybrid_manager": self._without_manager,
            "cache_port": self.cache_ports[slot.cache] if slot.cache else 0,
            "engine_file": engine_file(slot.name, with_lmcache=not is_off_form),
            **{port.word: port.port for port in slot.ports},
        }

    def applied(self, group: WorkerGroup, *, lmcache: bool) -> tuple[Setting, ...]:
        """Return the stack's settings that hold for a worker; lmcache: in the form with LMCache."""
        key = self._kind(group), lmcache
        if key not in self._applied:
            found = settings(self.topology, self.stack, group, lmcache=lmcache)
            self._applied[key] = tuple(found)
        return self._applied[key]

    def _kind(self, group: WorkerGroup) -> str:
        """Return what groups have in common that are alike but for their places."""
        if id(group) not in self._kinds:
            facts = (group.role.value, group.tensor_parallel_size, group.env, group.engine_args)
            self._kinds[id(group)] = repr(facts)
        return self._kinds[id(group)]

    def _form(self, slot: WorkerSlot, values: Mapping[str, Json], *, uses_lmcache: bool) -> _Form:
        """Return what a form of a worker has in common with those of its kind."""
        stack, topology, group = self.stack, self.topology, slot.group
        key = self._kind(group), uses_lmcache
        if key not in self._forms:
            own = _OWN_WORDS | {port.word for port in slot.ports}
            applied = self.applied(group, lmcache=uses_lmcache)
            platform, start = stack.platforms[topology.accelerator.value], stack.starts["worker"]
            engine_args = dict(stack.engine_args)
            env: dict[str, Json] = {}
            for setting in applied:
                engine_args.update(setting.engine_args)
                env.update(setting.env)
            base = {**stack.env, **platform.env, **start.env}
            self._forms[key] = _Form(
                applied=applied,
                env=PrefilledTexts(dict(sorted(base.items())), values, own),
                setting_env=PrefilledTexts(env, values, own),
                case_env=case_env(topology, stack, group) if uses_lmcache else {},
                engine_args=Prefilled(engine_args, values, own),
            )
        return self._forms[key]

    def _env(
        self,
        slot: WorkerSlot,
        form: _Form,
        values: Mapping[str, Json],
        tiers: ProcessTiers,
        *,
        uses_lmcache: bool,
    ) -> dict[str, str]:
        stack, topology = self.stack, self.topology
        env = form.env.filled(values)
        if topology.accelerator is Accelerator.CUDA:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
        env.update(discovery_env(topology, stack, values))
        env.update(form.setting_env.filled(values))
        if slot.side_channel_port is not None:
            env[stack.side_channel["host_variable"]] = LOOPBACK
            env[stack.side_channel["port_variable"]] = str(slot.side_channel_port)
            env.update(stack.platforms[topology.accelerator.value].transfer_env)
        if uses_lmcache:
            if topology.lmcache.mode is CacheMode.IN_PROCESS and stack.lmcache_config:
                env["LMCACHE_CONFIG_FILE"] = lmcache_file(slot.name)
            env.update(form.case_env)
        env.update(tiers.env)
        env.update(slot.group.env)
        return dict(sorted(env.items()))

    def _engine_args(
        self, slot: WorkerSlot, form: _Form, values: Mapping[str, Json]
    ) -> dict[str, Json]:
        filled = form.engine_args.filled(values)
        arguments: dict[str, Json] = {
            name: value for name, value in filled.items() if value is not None
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
            option = self.stack.engine_options[name]
            is_text = isinstance(value, dict) and not self.stack.nested_engine_file
            if is_text or (option.json == "array" and isinstance(value, list)):
                given[name] = json.dumps(value, ensure_ascii=False)
            elif value is not False or option.negatable:
                given[name] = value
        return given


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
