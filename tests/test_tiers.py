"""Facts about storage tiers that golden bundles only hold still."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from compiler.emit.bundle import emit
from compiler.library import library, load_stack, templates
from compiler.load.yaml_tree import parse_data
from compiler.model.kv_shape import kv_shape
from compiler.model.memory_budget import cache_budgets
from compiler.model.tier_budget import tier_budgets, unknown_tiers
from compiler.plan import Plan
from compiler.process import Kind, Process, Protocol, WithoutLmcache
from compiler.shipped_files import stack_names, stack_text, tiers_text
from tests.support import AGG, DISAGG, compile_text, plan_of

GIB = 1 << 30
DISK = "lmcache.tiers=[{disk: {path: /var/cache/kv, size_gb: 100}}]"
RELEASES = ("0.5.6", "0.5.3")
MANAGED = "lmcache.tiers=[{redis: {managed: true, size_gb: 4, password_file: /etc/pw}}]"
IN_PROCESS = (
    "stack=vllm-0.25",
    "lmcache.mode=in_process",
    "workers[0].engine_args.enforce_eager=true",
)


def process(plan: Plan, name: str) -> Process:
    return next(item for item in plan.processes if item.name == name)


def adapters(item: Process) -> list[dict[str, Any]]:
    words = zip(item.argv, item.argv[1:], strict=False)
    return [json.loads(text) for flag, text in words if flag == "--l2-adapter"]


def test_each_cache_server_has_its_own_folder_and_half_of_it_after_a_restart() -> None:
    plan = plan_of(DISAGG, DISK, "workers[1].lmcache=true")
    servers = [item for item in plan.processes if item.kind is Kind.CACHE_SERVER]
    assert len(servers) == 2
    for server in servers:
        (tier,) = server.tiers
        (adapter,) = adapters(server)
        assert tier.folder == adapter["base_path"] == f"/var/cache/kv/{server.name}"
        assert tier.size_bytes == 100 * GIB
        assert tier.keep_bytes is not None
        assert tier.keep_bytes + adapter["max_capacity_gb"] * GIB == tier.size_bytes
        assert adapter["eviction"]["eviction_policy"] == "LRU"
        assert (tier.persistent, tier.shared, tier.server) == (True, False, None)


@pytest.mark.parametrize(("keep", "run"), [(0, 100), (30, 70)])
def test_what_a_restart_keeps_is_taken_from_the_run(keep: int, run: int) -> None:
    tiers = f"lmcache.tiers=[{{disk: {{path: /kv, size_gb: 100, keep_gb: {keep}}}}}]"
    server = process(plan_of(AGG, tiers), "lmcache")
    assert server.tiers[0].keep_bytes == keep * GIB
    assert adapters(server)[0]["max_capacity_gb"] == run


def test_every_worker_has_its_own_folder_in_process_and_forgets_it() -> None:
    more = ("workers[0].gpus=[0,1]", "workers[0].replicas=2")
    plan = plan_of(AGG, DISK, *IN_PROCESS, *more)
    for name in ("aggregated-0", "aggregated-1"):
        worker = process(plan, name)
        assert worker.launch.lmcache_config["local_disk"] == f"/var/cache/kv/{name}"
        assert worker.launch.lmcache_config["max_local_disk_size"] == 100
        assert worker.tiers[0].keep_bytes == 0
        assert not worker.tiers[0].persistent
        assert "LMCACHE_LOCAL_CPU" in worker.switch_env


def test_a_managed_redis_comes_first_and_is_no_part_of_the_form_without_lmcache() -> None:
    plan = plan_of(AGG, MANAGED)
    store = plan.processes[0]
    assert (store.name, store.kind, store.ready.protocol) == ("redis", Kind.STORE, Protocol.REDIS)
    assert store.without_lmcache is WithoutLmcache.NOT_STARTED
    assert process(plan, "lmcache").after == ("redis",)
    assert "redis" not in process(plan, "aggregated-0").after
    options = dict(zip(store.argv[2::2], store.argv[3::2], strict=True))
    assert options["--bind"] == "127.0.0.1"
    assert options["--maxmemory"] == str(4 * GIB)
    assert (options["--save"], options["--appendonly"]) == ("", "no")
    (tier,) = process(plan, "lmcache").tiers
    assert tier.server is not None
    assert tier.server.port == store.listens[0].port
    assert not tier.persistent
    inside = plan_of(AGG, MANAGED, *IN_PROCESS)
    assert process(inside, "aggregated-0").after == ("redis",)


def test_a_managed_redis_takes_the_last_port_so_that_others_stay() -> None:
    plain, managed = plan_of(AGG), plan_of(AGG, MANAGED)
    for item in plain.processes:
        assert process(managed, item.name).listens == item.listens
    ports = [listen.port for item in managed.processes for listen in item.listens]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("mode", [(), IN_PROCESS])
def test_a_password_is_named_by_its_file_alone(mode: tuple[str, ...]) -> None:
    text = "lmcache.tiers=[{redis: {url: 'redis://h:1', username: kv, password_file: /etc/pw}}]"
    plan = plan_of(AGG, text, "frontend.api_key_file=/etc/key", *mode)
    caching = next(item for item in plan.processes if item.tiers)
    assert caching.secrets["LMCACHE_RESP_PASSWORD"] == "/etc/pw"
    assert caching.env["LMCACHE_RESP_USERNAME"] == "kv"
    assert plan.api_key_file == "/etc/key"
    texts = {artifact.path: artifact.text for artifact in emit(plan, templates())}
    assert "Bearer $(cat /etc/key)" in texts["README.md"]
    serving = texts["systemd/dync-one-serving.service"]
    assert "LoadCredential=VLLM_API_KEY:/etc/key" in serving
    assert "LMCACHE_RESP_PASSWORD" not in serving


def test_without_lmcache_no_tier_is_used() -> None:
    plan = plan_of(AGG, MANAGED, *IN_PROCESS)
    off = process(plan, "aggregated-0").without_lmcache
    assert not isinstance(off, WithoutLmcache)
    assert off.lmcache_config == {}
    assert not any(name.startswith("LMCACHE_RESP") for name in off.env)
    assert "redis" not in [item.name for item in plan_of(AGG, "lmcache.enabled=false").processes]


def test_every_kind_of_the_schema_has_a_form_and_every_option_is_used() -> None:
    """An option that no form reads would be dropped silently."""
    kinds = library().schema["properties"]["lmcache"]["properties"]["tiers"]["items"]["properties"]
    newer, older = (parse_data(tiers_text(f"lmcache-{release}"))["kinds"] for release in RELEASES)
    assert set(newer) == set(kinds) == set(older), "each release has a form, or says refused"
    through = {  # that follow from an option: resolve/tier_values.py, resolve/redis_store.py
        "hosts": "_url", "url": "url", "keep_gb": "keep_gb", "size_gb": "size", "port": "port",
        "slot_mb": "slot_bytes", "segment_gb": "segment_bytes", "buffer_gb": "buffer_bytes",
        "tls": "tls", "cluster": "cluster", "endpoint": "endpoint", "managed": "managed",
        "direct_io": "direct_io", "l2_adapter": "own_adapter", "ttl_s": "ttl_s",
        "master": "master", "sentinel": "sentinel", "database": "database",
    }  # fmt: skip
    for kind, schema in kinds.items():
        text = json.dumps([newer[kind], older[kind]])
        for option in schema["properties"]:
            words = (through.get(option, option), "hosts_text" if option == "hosts" else "managed")
            assert any(word in text for word in words), f"{kind}.{option}"


def test_what_tiers_hold() -> None:
    shape = kv_shape({"num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 64})
    plan = plan_of(AGG, "lmcache.cpu_cache_gb=1", DISK)
    (memory,) = budgets = cache_budgets(plan, shape, load_stack(plan.stack).platforms["cuda"])
    (disk,) = tier_budgets(plan, budgets)
    assert disk.name == "lmcache disk"
    assert disk.tokens == pytest.approx(100 * memory.tokens, rel=0.01)
    assert unknown_tiers(plan) == ()
    fs = plan_of(AGG, "lmcache.tiers=[{fs: {path: /mnt/kv}}]")
    assert unknown_tiers(fs) == ("fs at /mnt/kv",)


@pytest.mark.parametrize("stack", ["dynamo-1.0", "dynamo-0.7"])
def test_a_stack_that_nobody_looked_at_has_no_tiers(stack: str) -> None:
    compiled = compile_text(AGG, *IN_PROCESS, f"stack={stack}", DISK)
    assert "tier-offered" in {found.rule for found in compiled.diagnostics}


@pytest.mark.parametrize("stack", [name for name in stack_names() if load_stack(name).tier_kinds])
def test_a_stacks_tiers_are_those_of_its_lmcache(stack: str) -> None:
    release = load_stack(stack).versions["lmcache"]
    written = parse_data(stack_text(stack))["tiers"]
    assert written == f"lmcache-{release}"
    assert parse_data(tiers_text(written))["lmcache"] == release


@pytest.mark.parametrize("stack", ["vllm-0.25", "dynamo-1.3"])
def test_mooncake_is_told_of_its_master_in_both_of_its_words(stack: str) -> None:
    """Mooncake's setup by position has one for it, by mapping another; it drops what it lacks."""
    tier = "{master: 'h:7', local_host: g, protocol: rdma, device: mlx5_0}"
    plan = plan_of(AGG, f"stack={stack}", f"lmcache.tiers=[{{mooncake: {tier}}}]", *IN_PROCESS)
    config = process(plan, "aggregated-0").launch.lmcache_config["extra_config"]
    assert isinstance(config, dict)
    for name in ("mooncake_master_server_address", "mooncake_master_server_addr"):
        assert config[name] == "h:7"
    for name in ("mooncake_device_name", "mooncake_rdma_devices"):
        assert config[name] == "mlx5_0"


@pytest.mark.parametrize(
    ("tier", "mode"),
    [
        ("nixl: {path: /kv, pool_size: 10}", "in_process"),  # 0.5.3 frees what NIXL still writes
        ("hf3fs: {mount_point: /mnt, path: /mnt/kv}", "multiprocess"),
        ("mooncake: {master: 'h:1', local_host: h}", "multiprocess"),
    ],
)
def test_what_lmcache_0_5_3_lacks_is_refused(tier: str, mode: str) -> None:
    compiled = compile_text(
        AGG, "stack=vllm-0.25", f"lmcache.tiers=[{{{tier}}}]", f"lmcache.mode={mode}"
    )
    assert "tier-offered" in {found.rule for found in compiled.diagnostics}


def test_the_scripts_hold_any_path() -> None:
    path = "/mnt/it's 100% $HOME/`x`"
    plan = plan_of(AGG, f'lmcache.tiers=[{{disk: {{path: "{path}", size_gb: 100}}}}]')
    script = next(item for item in emit(plan, templates()) if item.path == "bin/lmcache.sh")
    (line,) = (line for line in script.text.splitlines() if line.startswith("dync_folder"))
    assert shlex.split(line)[1] == f"{path}/lmcache"
