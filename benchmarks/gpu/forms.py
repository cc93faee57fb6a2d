"""Bundles for one GPU that show what caches rightly: forms, faults planted into them, and tiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.faults import Fault
from benchmarks.gpu.sizes import Bundle, Bundles, Env, Given, engine, small
from compiler.stacks.combinations import Combination, Known
from compiler.topology import CacheMode, TopologyKind

Here = Mapping[Combination, Known]
"""How the stack's combinations stand on the kit's accelerator."""
WRONG = "in-process-wrong-kv"
"""A case whose combinations are built all the same, to see that it is true."""
# Each tier on its own, in this folder of the prefix or at a port below the bundles' first one.
TIERS_FOLDER, REDIS_PORT, MOONCAKE_PORT = "tiers", -1, -2


@dataclass(frozen=True, slots=True)
class Form:
    """A deployment that is launched to show whether it caches rightly: a profile, made small.

    workers: how many groups of them the profile has.
    """

    profile: str
    workers: int
    combination: Combination

    @property
    def given(self) -> Given:
        """Return what differs from the profile."""
        return {"lmcache.mode": self.combination.mode.value}


AGG, DISAGG = TopologyKind.AGG, TopologyKind.DISAGG
SERVER, INSIDE = CacheMode.MULTIPROCESS, CacheMode.IN_PROCESS
FORMS: Mapping[str, Form] = {
    "agg": Form("agg", 1, Combination(topology=AGG, mode=SERVER)),
    "agg-in-process": Form("agg-in-process", 1, Combination(topology=AGG, mode=INSIDE)),
    "disagg": Form("disagg-one-gpu", 2, Combination(topology=DISAGG, mode=SERVER)),
    "disagg-in-process": Form("disagg-one-gpu", 2, Combination(topology=DISAGG, mode=INSIDE)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a kit runs: prefix, of engines and models; gpu, of all but what takes two."""

    prefix: Path
    stack: str
    accelerator: str
    gpu: int = 0
    first_port: int = 20000


def proved(models: Mapping[str, str], forms: Mapping[str, Form], env: Env) -> dict[str, Bundle]:
    """Return the forms for one GPU, small enough to run side by side."""
    return {
        name: (form.profile, {**small(models, form.workers, env), **form.given})
        for name, form in forms.items()
    }


def planted(models: Mapping[str, str], faults: Mapping[str, Fault], here: Here) -> Bundles:
    """Return what faults are planted into, as small."""
    found = {}
    for name, fault in faults.items():
        given = small(models, fault.workers)
        if not fault.graphs:
            given |= engine(fault.workers, {"enforce_eager": True})
        if fault.mode is None:
            given |= beside_nixl(here)
        found[name] = (fault.profile, given)
    return found


def is_wrong(known: Known) -> bool:
    """Return whether the stack refuses it because its answers are wrong."""
    return known.case is not None and known.case.id == WRONG


def offered(faults: Mapping[str, Fault], here: Here) -> dict[str, Fault]:
    """Return the faults of the modes that the stack does not refuse."""
    modes = {None, *(form.mode for form in here if here[form].case is None)}
    return {name: fault for name, fault in faults.items() if fault.mode in modes}


def beside_nixl(here: Here) -> Given:
    """Return LMCache's mode in disaggregated deployments: a cache server, where that is right."""
    with_server = here[FORMS["disagg"].combination].case is None
    return FORMS["disagg" if with_server else "disagg-in-process"].given


def tiered(machine: Machine, given: Given, profile: str) -> Bundles:
    """Return one bundle for each tier; the suite starts the servers that they ask."""
    folder = f"{machine.prefix}/{TIERS_FOLDER}"
    redis, mooncake = (machine.first_port + port for port in (REDIS_PORT, MOONCAKE_PORT))
    tiers = {
        "disk": f"path: {folder}/disk, size_gb: 4",
        "fs": f"path: {folder}/fs",
        "redis": f"url: 'redis://127.0.0.1:{redis}', password_file: {folder}/redis-password",
        # The worker gives no memory: what it stores outlives it in that of another client.
        "mooncake": f"master: '127.0.0.1:{mooncake}', local_host: 127.0.0.1, segment_gb: 0",
    }
    if machine.accelerator == "cpu":
        del tiers["mooncake"]  # only in process
    found: dict[str, tuple[str, Given]] = {
        f"tier-{kind}": (profile, {**given, "lmcache.tiers": f"[{{{kind}: {{{options}}}}}]"})
        for kind, options in tiers.items()
    }
    if machine.accelerator != "cpu":  # so little memory that later prompts leave the disk alone
        found["tier-disk"] = (profile, {**found["tier-disk"][1], "lmcache.cpu_cache_gb": 0.05})
    return found
