"""Tiers under systemd: a real redis-server as a unit, folders in a sandbox, wrong passwords."""

from __future__ import annotations

import sys
from pathlib import Path

from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.plan import Plan
from compiler.write.bundle import write
from tests.hostile.test_round_trip import as_yaml
from tests.support import compile_text, plan_in
from tests.systemd.machine import Machine
from tests.systemd.test_units import installed

PASSWORD = "p@:w/d %'\"\\ ö"
FILE = "/etc/dync pass/100% word"
FOLDER = "/home/it's 100% kv"
STAND_IN = Path(__file__).with_name("stand_in.py")


def made(machine: Machine, shared: Path) -> Plan:
    profile = {
        "name": "tiers",
        "stack": "vllm-0.32",
        "topology": "agg",
        "accelerator": "cpu",
        "model": {"id": "a/b"},
        "lmcache": {
            "chunk_size": 128,
            "cpu_cache_gb": 0.001,
            "tiers": [
                {"disk": {"path": FOLDER, "size_gb": 0.01}},
                {"redis": {"managed": True, "size_gb": 0.01, "password_file": FILE}},
            ],
        },
        "workers": [{"role": "aggregated"}],
        "deploy": {"prefix": f"{shared}/tiers", "first_port": 18200},
    }
    plan = plan_in(compile_text(as_yaml(profile)))
    program = Path(plan.stack_program)
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable} -IS\n{STAND_IN.read_text('utf-8')}", "utf-8")
    program.chmod(0o755)
    machine.at(FILE).parent.mkdir()
    write(emit(plan, templates()), shared / "tiers-bundle")
    return plan


def test_a_managed_redis_and_a_disk_in_a_home(machine: Machine, shared: Path) -> None:
    plan = made(machine, shared)
    redis, cache = "dync-tiers-redis.service", "dync-tiers-lmcache.service"
    file = machine.at(FILE)
    file.write_text(PASSWORD + "\n", "utf-8")
    file.chmod(0o600)
    installed(machine, shared / "tiers-bundle")
    folder = f"{FOLDER}/lmcache"
    assert machine.run("stat", "-c", "%U %a", folder).strip() == "dync 700"
    machine.run("bash", "-c", f'echo x > "{folder}/m@1.data"; chown dync: "{folder}/m@1.data"')
    machine.run("truncate", "-s", "20M", f"{folder}/m@1.data")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", redis, cache)
    assert machine.run("systemctl", "is-active", redis, cache).split() == ["active", "active"]
    assert machine.run("find", folder, "-type", "f") == ""  # 20 MB beside keep_gb of 5
    main = machine.run("systemctl", "show", "-P", "MainPID", redis).strip()
    line = machine.run("cat", f"/proc/{main}/cmdline")
    assert f"127.0.0.1:{plan.processes[0].listens[0].port}" in line
    for unit in (redis, cache):
        assert "p@" not in machine.run("systemctl", "show", unit)
        assert "p@" not in machine.run("systemctl", "cat", unit)
    assert "p@" not in line

    file.write_text("another\n", "utf-8")
    done = machine.try_run("systemctl", "restart", cache)
    assert done.returncode != 0
    said = machine.run("journalctl", "--no-pager", "-o", "cat", "-u", cache)
    assert f"refuses the password of {FILE}" in said
    machine.run("systemctl", "restart", redis)
    machine.run("systemctl", "reset-failed", cache)
    machine.run("systemctl", "start", cache)
    machine.run("systemctl", "stop", cache, redis)
