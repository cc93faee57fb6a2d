"""LMCache's own adapter for Valkey, with its password from the environment.

LMCache 0.5.6 takes it as JSON on the command line only, which every user of the host can read.
Loaded by LMCache as a plugin (plugin_l2_adapter.py).
"""

from __future__ import annotations

import os
from typing import Any

from lmcache.v1.distributed.l2_adapters.valkey_l2_adapter import (
    ValkeyL2Adapter,
    ValkeyL2AdapterConfig,
)


class Config(ValkeyL2AdapterConfig):
    """The adapter's own configuration, and the password."""

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ValkeyL2AdapterConfig:
        password = os.environ.get("LMCACHE_RESP_PASSWORD", "")
        if not password:
            return ValkeyL2AdapterConfig.from_dict(d)
        # LMCache gives both to ServerCredentials(password, username) in the other order.
        swapped = {"username": password, "password": d.get("username") or "default"}
        return ValkeyL2AdapterConfig.from_dict({**d, **swapped})


class Adapter(ValkeyL2Adapter):
    """The adapter itself; a plugin is given the host memory's place, and this one needs none."""

    def __init__(self, config: ValkeyL2AdapterConfig, l1_memory_desc: object = None) -> None:
        del l1_memory_desc
        super().__init__(config)
