"""LMCache's own keys, given as a worker's variables, fit each other.

Some keys are nothing without others. LMCache then ends with an error without a text, or leaves the
tier out and serves without it.

Accepted:
    name: disk
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enforce_eager: true}
        env: {LMCACHE_REMOTE_URL: "redis://10.0.0.5:6379", LMCACHE_REMOTE_SERDE: naive}

Rejected:
    name: disk
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enforce_eager: true}
        env: {LMCACHE_REMOTE_URL: "10.0.0.5:6379", LMCACHE_REMOTE_SERDE: naive}

Source: lmcache 0.3.7, 0.4.1, 0.5.3 and 0.5.6: v1/config.py _validate_config, system_detection.py,
storage_backend/__init__.py, naive_serde/__init__.py, connector/__init__.py, gds_backend.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compiler.addresses import is_loopback
from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.document import Json
from compiler.stacks.lmcache_keys import PREFIX, LMCacheKeys, lmcache_keys, unquoted, variable
from compiler.stacks.stack import Option, Stack
from compiler.topology import CacheMode, Topology, WorkerGroup

RULE = Rule(
    "lmcache-settings", Severity.ERROR, "LMCache dies, or serves without what was asked for"
)


@dataclass(frozen=True, slots=True)
class _Need:
    """A key that is nothing without others; in_extra: entries of extra_config."""

    key: str
    needs: tuple[str, ...] = ()
    in_extra: tuple[str, ...] = ()
    only: str = ""
    reason: str = "LMCache ends with an AssertionError that has no text"


_NEEDS = (
    _Need(
        "enable_p2p",
        (
            "enable_controller",
            "controller_pull_url",
            "controller_reply_url",
            "lmcache_worker_ports",
            "p2p_host",
            "p2p_init_ports",
            "p2p_lookup_ports",
            "transfer_channel",
        ),
    ),
    _Need("enable_controller", ("controller_pull_url", "lmcache_worker_ports")),
    _Need("enable_pd", ("pd_role", "pd_buffer_size", "pd_buffer_device")),
    _Need("gds_path", ("gds_buffer_size", "cufile_buffer_size")),
    _Need("numa_mode", in_extra=("gpu_to_numa_mapping",), only="manual"),
    _Need("local_disk", ("max_local_disk_size",), reason="a disk tier of size 0 is not made"),
    _Need("max_local_disk_size", ("local_disk",), reason="a disk tier has no place of its own"),
)
_CHOICES = {"remote_serde": ("naive", "kivi", "cachegen"), "numa_mode": ("auto", "manual")}
_RISKS = {
    "enable_lazy_memory_allocator": "LMCache allocates the whole size at once all the same",
    "remote_config_url": "it is sent the worker's whole environment, and outranks the bundle",
    "run_script_api_enabled": "whoever reaches LMCache's port runs Python inside the worker",
}


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report what is missing beside a worker's LMCACHE_* variables, and what cannot be."""
    if topology.lmcache.mode is not CacheMode.IN_PROCESS:
        return
    for group in topology.workers:
        if topology.uses_lmcache(group) and any(name.startswith(PREFIX) for name in group.env):
            settings = _Settings(group, lmcache_keys(stack))
            yield from settings.check(is_protected=topology.frontend.allow_unauthenticated)
            yield from settings.nixl(is_sized=stack.sized_nixl_cpu_buffer)


class _Settings:
    """One worker's settings of LMCache, as it would read them."""

    def __init__(self, group: WorkerGroup, keys: LMCacheKeys) -> None:
        self.group = group
        self.keys = keys
        self.given = {
            name: unquoted(value) for name, value in group.env.items() if name in keys.options
        }
        self.extra = _mapping(self.given.get(variable("extra_config"), ""))

    def check(self, *, is_protected: bool) -> Iterator[Diagnostic]:
        """Return every finding; is_protected: the profile says that something guards the ports."""
        for need in _NEEDS:
            yield from self._missing(need)
        for key, choices in _CHOICES.items():
            value = self.given.get(variable(key))
            if value is not None and value not in choices:
                fix = f"write {' or '.join(choices)}"
                yield self._wrong(key, f"{variable(key)}={value} is not a value of LMCache's", fix)
        url = self.given.get(variable("remote_url"), "://")
        if "://" not in url:
            fix = f"write the store's scheme too, such as redis://{url}"
            yield self._wrong("remote_url", f"LMCACHE_REMOTE_URL={url} has no scheme", fix)
        if not is_protected:
            yield from self._exposed()
        for key, risk in _RISKS.items():
            if self._is_on(key):
                yield RULE.at(
                    self.group.origin.key("env", variable(key)),
                    f"{variable(key)} is on",
                    fix="remove it",
                    why=risk,
                    severity=Severity.WARNING,
                )

    def _missing(self, need: _Need) -> Iterator[Diagnostic]:
        name = variable(need.key)
        if not self._is_on(need.key) or (need.only and self.given[name] != need.only):
            return
        known = [key for key in need.needs if variable(key) in self.keys.options]
        missing = [variable(key) for key in known if not self._is_on(key)]
        missing += [
            f"{key} in LMCACHE_EXTRA_CONFIG" for key in need.in_extra if key not in self.extra
        ]
        if missing:
            message = f"{name} needs {', '.join(missing)}"
            fix = f"set {'it' if len(missing) == 1 else 'them'} too, or remove {name}"
            yield RULE.at(self.group.origin.key("env", name), message, fix=fix, why=need.reason)

    def nixl(self, *, is_sized: bool) -> Iterator[Diagnostic]:
        """Report a NIXL storage that lacks its backend, device or buffer, or has one too many.

        is_sized: a buffer in host memory has a size too.
        """
        if not self.extra.get("enable_nixl_storage"):
            return
        device = self.given.get(variable("nixl_buffer_device"))
        missing = [] if "nixl_backend" in self.extra else ["nixl_backend in LMCACHE_EXTRA_CONFIG"]
        missing += [] if device else ["LMCACHE_NIXL_BUFFER_DEVICE"]
        has_size = self._is_on("nixl_buffer_size")
        if device == "cpu" and has_size and not is_sized:
            message = "LMCACHE_NIXL_BUFFER_SIZE has no place with LMCACHE_NIXL_BUFFER_DEVICE=cpu"
            yield self._wrong("nixl_buffer_size", message, "remove it: host memory is the buffer")
        if (device != "cpu" or is_sized) and not has_size:
            missing.append("LMCACHE_NIXL_BUFFER_SIZE")
        if missing:
            message = f"enable_nixl_storage needs {', '.join(missing)}"
            yield self._wrong("extra_config", message, "set what is missing")

    def _exposed(self) -> Iterator[Diagnostic]:
        host = variable("internal_api_server_host")
        address = self.given.get(host, str(self.keys.defaults.get(host)))
        if self._is_on("internal_api_server_enabled") and not is_loopback(address):
            key = (
                "internal_api_server_host" if host in self.given else "internal_api_server_enabled"
            )
            message = f"LMCache's own API listens on {address} and asks for no key"
            why = "whoever connects sees and changes what the worker caches"
            yield self._wrong(key, message, f"write {host}: 127.0.0.1", why)

    def _wrong(self, key: str, message: str, fix: str, why: str | None = None) -> Diagnostic:
        span = self.group.origin.of("env", variable(key))
        return RULE.at(span, message, fix=fix, why=why)

    def _is_on(self, key: str) -> bool:
        """Return whether a key is given, and not with a value that switches it off."""
        value, option = self.given.get(variable(key)), self.keys.options.get(variable(key))
        return bool(value) and option is not None and not _is_off(value or "", option)


def _is_off(text: str, option: Option) -> bool:
    if "boolean" in option.types:
        return text.lower() not in ("true", "1")
    return "number" in option.types and text.strip("0.") == ""


def _mapping(text: str) -> Mapping[str, Json]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
