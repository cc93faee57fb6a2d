"""The storage tiers of LMCache 0.5.3, by that release itself on the CPU stack's torch.

Stacks vllm-0.25 and dynamo-1.3 have it, and no platform for a CPU: here vllm-0.25 is the CPU
stack's Python with the older LMCache before its own.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from compiler.emit.bundle import emit
from compiler.library import load_stack, templates
from compiler.load.yaml_tree import parse_data
from compiler.plan import Plan
from compiler.process import Kind
from compiler.write.bundle import write
from demo.cpu_stack import STACK
from tests.engine.conftest import packages, until
from tests.engine.test_tiers import (
    ADAPTERS,
    PASSWORD,
    SEQUENCES,
    Redis,
    bench,
    cache_server,
)
from tests.support import ROOT, free_ports, plan_of

pytestmark = pytest.mark.engine

CONFIGURATIONS = """
import json, sys
from lmcache.v1.config import load_engine_config_with_overrides
for path in sys.argv[1:]:
    config = load_engine_config_with_overrides(config_file_path=path)
    print("READ " + json.dumps(vars(config), default=str))
"""
PROGRAM = Path(__file__).with_name("in_process_tiers.py")
EMPTY = '. lib/dync.sh; dync_process=aggregated-0; dync_folder "$1" 0 ""'
RELEASE, OLDER = "0.5.3", "vllm-0.25"
MOONCAKE = "mooncake-transfer-engine-non-cuda==0.3.13.post1"
GLIDE = ("valkey-glide-sync-2.6.0", "valkey-glide-sync==2.6.0")
MEMORY = ROOT / "benchmarks" / "gpu" / "rig" / "mooncake_memory.py"
PROFILE = """\
name: tiers
stack: {stack}
topology: agg
model: {{id: m}}
lmcache:
  mode: {mode}
  chunk_size: {chunk}
  cpu_cache_gb: 0.125
  tiers:
{tiers}
workers: [{{role: aggregated, gpus: [0], engine_args: {{enforce_eager: true}}}}]
"""


def in_process(action: str, plan: Plan, root: Path) -> dict[str, int]:
    worker = next(process for process in plan.processes if process.kind is Kind.WORKER)
    done = subprocess.run(
        [worker.argv[0], str(PROGRAM), action, worker.env["LMCACHE_CONFIG_FILE"]],
        cwd=root,
        env={**worker.env, "LMCACHE_RESP_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, int] = json.loads(done.stdout.strip().split("\n")[-1])
    return found


def profile(*tiers: str, mode: str, chunk: int = 128) -> str:
    listed = "\n".join(f"    - {tier}" for tier in tiers)
    return PROFILE.format(stack=OLDER, mode=mode, chunk=chunk, tiers=listed)


@pytest.fixture(scope="session")
def older(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prefix whose vllm-0.25 imports LMCache 0.5.3, Mooncake and Valkey's client."""
    root = tmp_path_factory.mktemp("older")
    before = (
        packages(STACK, f"lmcache-{RELEASE}", f"lmcache=={RELEASE}"),
        packages(STACK, MOONCAKE, MOONCAKE),
        packages(STACK, *GLIDE),
    )
    python = root / "stacks" / OLDER / "bin" / "python"
    python.parent.mkdir(parents=True)
    path = f"{':'.join(map(str, before))}${{PYTHONPATH:+:$PYTHONPATH}}"
    real = prefix / "stacks" / STACK / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec {real} "$@"\n', "utf-8")
    python.chmod(0o755)
    return root


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "pass word"
    path.write_text(PASSWORD, "utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path, free_ports(1)[0])
    server.start()
    yield server
    server.kill()


@pytest.fixture
def mooncake(older: Path, tmp_path: Path) -> Iterator[str]:
    """Return the address of a mooncake_master, to which another client gives memory."""
    port, metrics = free_ports(2)
    python, master = str(older / "stacks" / OLDER / "bin" / "python"), f"127.0.0.1:{port}"
    first = [python, "-m", "mooncake.cli", f"--rpc_port={port}", f"--metrics_port={metrics}"]
    second = [python, str(MEMORY), master, str(64 << 20)]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, argv in (("master", first), ("memory", second)):
            log = tmp_path / f"mooncake-{name}.log"
            with log.open("wb") as sink:
                running.append(
                    subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=sink, stderr=sink)
                )
            until(lambda: has_metrics(metrics), 60)
        until(lambda: b"gives\n" in log.read_bytes(), 60)
        yield master
    finally:
        for process in running:
            process.kill()
            process.communicate()


def has_metrics(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2):
        return True
    return False


def built(text: str, older: Path, root: Path) -> Plan:
    plan = plan_of(text, f"deploy.prefix={older}")
    write(emit(plan, templates()), root)
    return plan


def said_by(older: Path, code: str, *words: str) -> tuple[list[Any], str]:
    """Run code by LMCache 0.5.3; return what it read, and all that it said."""
    python = older / "stacks" / OLDER / "bin" / "python"
    version = "import importlib.metadata as m\nassert m.version('lmcache') == '0.5.3'\n"
    done = subprocess.run(
        [python, "-c", version + code, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    found = [json.loads(line[5:]) for line in lines if line.startswith("READ ")]
    return found, done.stdout + done.stderr


def test_the_release_is_that_of_the_stacks() -> None:
    for stack in (OLDER, "dynamo-1.3"):
        assert load_stack(stack).versions["lmcache"] == RELEASE
        assert load_stack(stack).tier_kinds


def test_in_process_the_tiers_are_read_after_a_restart_and_the_disk_is_not(
    older: Path, redis: Redis, password_file: Path, mooncake: str, tmp_path: Path
) -> None:
    """LMCache's own backends with the configuration that was built; a worker needs a GPU."""
    (tmp_path / "shared").mkdir()
    text = profile(
        f"disk: {{path: '{tmp_path}/di sk', size_gb: 1}}",
        f"redis: {{url: 'redis://127.0.0.1:{redis.port}', password_file: '{password_file}'}}",
        f"fs: {{path: '{tmp_path}/shared'}}",
        f"mooncake: {{master: '{mooncake}', local_host: 127.0.0.1, segment_gb: 0}}",
        mode="in_process",
        chunk=16,
    )
    root = tmp_path / "bundle"
    plan = built(text, older, root)
    put = in_process("put", plan, root)
    remote = {"RemoteBackend": 4, "RemoteBackend-fs.3": 4, "RemoteBackend-mooncakestore": 4}
    assert put == {"LocalDiskBackend": 4, **remote}
    assert in_process("get", plan, root) == {"LocalDiskBackend": 0, **remote}
    command = ["bash", "-c", EMPTY, "-", f"{tmp_path}/di sk/aggregated-0"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "removed 4 old files" in done.stderr


KEEP = """
for _, key in ipairs(redis.call('KEYS', '*')) do
    local wanted = string.sub(key, 1, 1) == 'v' and ARGV[1] or ARGV[2]
    local found = false
    for hash in string.gmatch(wanted, '[^ ]+') do
        found = found or string.find(key, hash, 1, true) ~= nil
    end
    if not found then redis.call('DEL', key) end
end
return redis.call('DBSIZE')
"""


@pytest.mark.long
def test_a_cache_server_reads_its_tiers_after_a_restart(
    older: Path, redis: Redis, password_file: Path, tmp_path: Path
) -> None:
    """All are filled past the host memory; then each chunk is left in one of them alone."""
    folders = [tmp_path / name for name in ("di sk", "ni xl", "shared")]
    folders[-1].mkdir()
    text = profile(
        f"disk: {{path: '{folders[0]}', size_gb: 1}}",
        f"nixl: {{path: '{folders[1]}', size_gb: 1}}",
        f"fs: {{path: '{folders[2]}'}}",
        f"redis: {{url: 'redis://127.0.0.1:{redis.port}', password_file: '{password_file}'}}",
        f"valkey: {{hosts: ['127.0.0.1:{redis.port}'], password_file: '{password_file}', "
        "key_prefix: v}",
        mode="multiprocess",
    )
    root = tmp_path / "bundle"
    plan = built(text, older, root)
    with cache_server(root, plan) as server:
        found, wrong, _ = bench(server, SEQUENCES)
        assert (found, wrong) == (0, 0)
    parts = shared_out(sorted(hashes_in(folders[2])), 5)
    for folder, part in zip(folders, parts, strict=False):
        for path in folder.rglob("*"):
            if path.is_file() and not any(item in path.name for item in part):
                path.unlink()
    redis.ask("EVAL", KEEP, "0", " ".join(parts[4]), " ".join(parts[3]))
    assert redis.keys() == len(parts[3]) + len(parts[4])
    with cache_server(root, plan) as server:
        found, wrong, said = bench(server, SEQUENCES, 0)
        assert found == 2 * SEQUENCES, f"{found} chunks\n{said[-3000:]}"
        assert wrong == 0


def hashes_in(folder: Path) -> set[str]:
    return {path.name.split("@")[2].removesuffix(".data") for path in folder.glob("*.data")}


def shared_out(items: list[str], count: int) -> list[list[str]]:
    return [items[number::count] for number in range(count)]


IN_PROCESS = (
    (
        "disk: {path: /mnt/kv, size_gb: 100}",
        "redis: {url: 'redis://h:6379', username: kv, password_file: /etc/dync/redis}",
        "fs: {path: /mnt/nfs, direct_io: true}",
        "mooncake: {master: 'h:50052', local_host: g, protocol: rdma, device: mlx5_0}",
        "gds: {path: /mnt/gds}",
    ),
    (
        "s3: {bucket: kv-cache, region: eu-central-1}",
        "hf3fs: {mount_point: /mnt/3fs, path: /mnt/3fs/kv}",
        "weka: {path: /mnt/weka}",
    ),
    ("infinistore: {host: h, device: mlx5_2, link: LINK_IB}",),
    ("valkey: {hosts: ['h:6379', 'g:6379'], cluster: true, tls: true, ttl_s: 60}",),
    ("redis: {url: 'rediss://h:6379'}",),
    ("redis: {hosts: ['h:26379', 'g:26379'], sentinel: s}",),
    ("redis: {hosts: ['h:6379', 'g:6379'], cluster: true}",),
    ("custom: {url: 'blackhole://h:1', extra_config: {save_chunk_meta: false}}",),
)
MULTIPROCESS = (
    "disk: {path: /mnt/kv, size_gb: 100, direct_io: true}",
    "redis: {url: 'redis://h:6379'}",
    "valkey: {hosts: ['h:6379'], tls: true, key_prefix: v, ttl_s: 60, database: 1}",
    "fs: {path: /mnt/nfs}",
    "s3: {bucket: kv-cache, region: eu-central-1}",
    "gds: {path: /mnt/gds, size_gb: 500}",
    "nixl: {path: /mnt/nixl, size_gb: 500}",
    "raw_block: {device: /dev/kv, size_gb: 500, slot_mb: 64}",
)
FORWARDED = "mooncake_"  # LMCache hands on what stands behind it


def test_its_own_loader_reads_every_key_as_it_was_written(older: Path, tmp_path: Path) -> None:
    files = []
    for number, tiers in enumerate(IN_PROCESS):
        root = tmp_path / str(number)
        built(profile(*tiers, mode="in_process"), older, root)
        files.append(root / "lmcache" / "aggregated-0.yaml")
    read_back, said = said_by(older, CONFIGURATIONS, *map(str, files))
    for complaint in ("Unknown config", "Failed to convert", "deprecated"):
        assert complaint not in said.replace("remote_url is deprecated", "")
    source = source_of_lmcache()
    for path, found in zip(files, read_back, strict=True):
        written = parse_data(path.read_text("utf-8"))
        assert {key: found[key] for key in written} == written, path
        for key in written.get("extra_config", {}):
            assert is_read(key, source), key


def test_its_own_parser_takes_every_adapter(older: Path) -> None:
    plan = plan_of(profile(*MULTIPROCESS, mode="multiprocess"), f"deploy.prefix={older}")
    server = next(process for process in plan.processes if process.kind is Kind.CACHE_SERVER)
    at = [number + 1 for number, word in enumerate(server.argv) if word == "--l2-adapter"]
    adapters = [server.argv[number] for number in at]
    assert len(adapters) == len(MULTIPROCESS)
    words = [word for text in adapters for word in ("--l2-adapter", text)]
    found, said = said_by(older, ADAPTERS, *words)
    assert "Error parsing" not in said
    source = source_of_lmcache()
    for text, (kind, values) in zip(adapters, found, strict=True):
        given = json.loads(text)
        assert given["type"] == kind
        for key in given.keys() & values.keys() - {"type", "eviction"}:
            assert values[key] == given[key], (kind, key)
        for key in (*given, *given.get("backend_params", ()), *given.get("eviction", ())):
            assert is_read(key, source), (kind, key)


def test_the_check_of_keys_notices_a_slip() -> None:
    source = source_of_lmcache()
    for slip in ("s3_regions", "mooncake_master_address", "remote_storage_plugin.fs.1.path"):
        assert not is_read(slip, source)


def source_of_lmcache() -> str:
    place = packages(STACK, f"lmcache-{RELEASE}", f"lmcache=={RELEASE}") / "lmcache" / "v1"
    mooncake = packages(STACK, MOONCAKE, MOONCAKE) / "mooncake" / "store.so"
    setup = mooncake.read_bytes().decode("latin-1").partition("Supported keys:")[2][:2000]
    words = "".join(f'"{line.split(":")[0].strip()}"' for line in setup.splitlines())
    return words + "".join(path.read_text("utf-8") for path in sorted(place.rglob("*.py")))


def is_read(key: str, source: str) -> bool:
    """Return whether LMCache, or Mooncake behind it, names a key whose value no loader checks."""
    if key.startswith("remote_storage_plugin."):
        return f'.{key.rpartition(".")[2]}"' in source
    return f'"{key.removeprefix(FORWARDED)}"' in source
