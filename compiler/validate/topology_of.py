"""Turn a document into a topology, refusing what its shape rules out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.diagnostic import Outcome, has_errors
from compiler.document import Document
from compiler.topology import (
    Accelerator,
    CacheMode,
    Deploy,
    Discovery,
    Frontend,
    LMCache,
    Model,
    Origin,
    Role,
    TierChoice,
    Tls,
    Topology,
    TopologyKind,
    WorkerGroup,
)
from compiler.validate.schema import schema_diagnostics, with_defaults


def validate(document: Document, schema: Mapping[str, Any]) -> Outcome[Topology]:
    """Check a document's shape, and return it its typed form.

    Errors: Diagnostics of the schema; never an exception.
    """
    found = schema_diagnostics(document, schema)
    if has_errors(found):
        return Outcome(None, tuple(found))
    topology = _topology(with_defaults(document.root.plain(), schema), document)
    return Outcome(topology, tuple(found))


def _topology(data: dict[str, Any], document: Document) -> Topology:
    model, frontend, lmcache = data["model"], data["frontend"], data["lmcache"]
    return Topology(
        name=data["name"],
        stack=data["stack"],
        kind=TopologyKind(data["topology"]),
        accelerator=Accelerator(data["accelerator"]),
        model=Model(
            id=model["id"],
            served_name=model["served_name"],
            max_len=_whole(model["max_len"]),
            origin=Origin(document, ("model",)),
        ),
        frontend=Frontend(
            host=frontend["host"],
            port=int(frontend["port"]),
            routing=frontend["routing"],
            api_key_file=frontend["api_key_file"],
            allow_unauthenticated=frontend["allow_unauthenticated"],
            tls=_tls(frontend["tls"]),
            max_request_mb=int(frontend["max_request_mb"]),
            secret_env=frontend["secret_env"],
            origin=Origin(document, ("frontend",)),
        ),
        discovery=_discovery(data["discovery"], Origin(document, ("discovery",))),
        lmcache=LMCache(
            enabled=lmcache["enabled"],
            mode=CacheMode(lmcache["mode"]),
            chunk_size=int(lmcache["chunk_size"]),
            cpu_cache_gb=lmcache["cpu_cache_gb"],
            secret_env=lmcache["secret_env"],
            tiers=tuple(
                TierChoice(
                    kind=kind,
                    options=options,
                    origin=Origin(document, ("lmcache", "tiers", index, kind)),
                )
                for index, tier in enumerate(lmcache["tiers"])
                for kind, options in tier.items()
            ),
            origin=Origin(document, ("lmcache",)),
        ),
        workers=tuple(
            _group(group, Origin(document, ("workers", index)))
            for index, group in enumerate(data["workers"])
        ),
        secret_env=data["secret_env"],
        deploy=_deploy(data["deploy"], Origin(document, ("deploy",))),
        origin=Origin(document, ()),
    )


def _tls(data: dict[str, Any]) -> Tls | None:
    return None if data["certificate"] is None else Tls(**data)


def _group(data: dict[str, Any], origin: Origin) -> WorkerGroup:
    return WorkerGroup(
        role=Role(data["role"]),
        gpus=tuple(_gpu(gpu) for gpu in data["gpus"] or ()),
        port=_whole(data["port"]),
        replicas=int(data["replicas"]),
        tensor_parallel_size=int(data["tensor_parallel_size"]),
        lmcache=data["lmcache"],
        engine_args=data["engine_args"],
        env={key: str(value) for key, value in data["env"].items()},
        secret_env=data["secret_env"],
        origin=origin,
    )


def _discovery(data: dict[str, Any], origin: Origin) -> Discovery:
    return Discovery(
        backend=data["backend"],
        etcd_endpoints=tuple(data["etcd_endpoints"]),
        events=data["events"],
        nats_server=data["nats_server"],
        origin=origin,
    )


def _deploy(data: dict[str, Any], origin: Origin) -> Deploy:
    return Deploy(
        user=data["user"],
        prefix=data["prefix"],
        first_port=int(data["first_port"]),
        ready_timeout_s=_whole(data["ready_timeout_s"]),
        drain_s=int(data["drain_s"]),
        origin=origin,
    )


def _gpu(value: int | float | str) -> str:
    return value if isinstance(value, str) else str(int(value))


def _whole(value: int | float | None) -> int | None:
    """JSON Schema's integer also takes 8192.0."""
    return None if value is None else int(value)
