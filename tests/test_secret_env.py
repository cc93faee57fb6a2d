"""A variable whose value stands in a file reaches the program, and nothing that can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from compiler.cli.main import dync
from compiler.diff.restarts import Action, Bundle, changes
from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.plan import Plan
from compiler.process import Kind
from compiler.write.bundle import write
from tests.support import AGG, DISAGG, IN_PROCESS, compile_text, plan_of

SECRET = "s3cret $(x) 'y' \\n %h"
PROGRAM = f"""\
#!{sys.executable} -IS
import json, sys
words = open("/proc/self/environ", "rb").read().decode().split("\\0")[:-1]
argv = open("/proc/self/cmdline", "rb").read().decode()
json.dump([argv, dict(word.split("=", 1) for word in words)], sys.stdout)
"""
MANAGED = "lmcache.tiers=[{redis: {managed: true, size_gb: 80}}]"


def secrets_of(plan: Plan) -> dict[str, dict[str, str]]:
    return {str(process.name): dict(process.secrets) for process in plan.processes}


def started(bundle: Path, name: str, **caller: str) -> tuple[str, dict[str, str]]:
    """Run a process's script with the stack's program replaced; return its argv and environment."""
    done = subprocess.run(
        ["bash", str(bundle / f"bin/{name}.sh")],
        env={"PATH": os.environ["PATH"], **caller},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    argv, environment = json.loads(done.stdout)
    return argv, environment


@pytest.fixture
def built(tmp_path: Path) -> tuple[Path, Plan]:
    """A bundle whose programs say what they were started with, and whose secrets are there."""
    for name in ("token", "proxy"):
        (tmp_path / name).write_text(f"{SECRET} {name}\n\n")
    text = DISAGG.replace("gpus: [1]", f"gpus: [1], secret_env: {{https_proxy: {tmp_path}/proxy}}")
    plan = plan_of(text, f"secret_env.HF_TOKEN={tmp_path}/token", f"deploy.prefix={tmp_path}/opt")
    for process in plan.processes:
        program = Path(process.argv[0])
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(PROGRAM)
        program.chmod(0o755)
    write(emit(plan, templates()), tmp_path / "bundle")
    return tmp_path / "bundle", plan


def test_the_program_has_it_and_nothing_else(built: tuple[Path, Plan]) -> None:
    bundle, plan = built
    for process in plan.processes:
        argv, environment = started(bundle, process.name, HF_TOKEN="the caller's", STRAY="1")
        assert environment["HF_TOKEN"] == f"{SECRET} token"
        assert environment.get("https_proxy") == (
            f"{SECRET} proxy" if process.name == "decode-0" else None
        )
        assert "s3cret" not in argv
        assert "STRAY" not in environment
    for path in bundle.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()


def test_who_reads_which_file() -> None:
    every = ("secret_env.A=/a", "frontend.secret_env.B=/b", "lmcache.secret_env.C=/c")
    found = secrets_of(plan_of(DISAGG, *every, "workers[1].secret_env.A=/own", MANAGED))
    assert found == {
        "redis": {},
        "lmcache-prefill-0": {"A": "/a", "C": "/c"},
        "prefill-0": {"A": "/a"},
        "decode-0": {"A": "/own"},
        "router": {"A": "/a", "B": "/b"},
    }
    alone = secrets_of(plan_of(AGG, *every))
    assert alone["aggregated-0"] == {"A": "/a", "B": "/b"}
    inside = secrets_of(
        plan_of(AGG, *every, *IN_PROCESS, "workers[0].engine_args.enforce_eager=true")
    )
    assert inside == {"aggregated-0": {"A": "/a", "B": "/b", "C": "/c"}}


def test_a_file_outranks_what_the_stack_sets() -> None:
    plan = plan_of(DISAGG, "secret_env.DO_NOT_TRACK=/etc/dync/x")
    for process in plan.processes:
        assert process.secrets["DO_NOT_TRACK"] == "/etc/dync/x"
        assert "DO_NOT_TRACK" not in process.env


def test_another_path_restarts_its_readers() -> None:
    def bundle(*overrides: str) -> Bundle:
        plan = plan_of(DISAGG, *overrides)
        return Bundle(plan=plan, texts={a.path: a.text for a in emit(plan, templates())})

    old = bundle("workers[1].secret_env.A=/etc/dync/a")
    new = bundle("workers[1].secret_env.A=/etc/dync/b")
    fates = {change.process: change.action for change in changes(old, new)}
    assert [name for name, fate in fates.items() if fate is Action.RESTARTS] == ["decode-0"]


def test_diff_says_which_file(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(f"{AGG}secret_env: {{HF_TOKEN: /etc/dync/a}}\n")
    (tmp_path / "new.yaml").write_text(f"{AGG}secret_env: {{HF_TOKEN: /etc/dync/b}}\n")
    done = CliRunner().invoke(dync, ["diff", f"{tmp_path}/new.yaml", f"{tmp_path}/old.yaml"])
    assert done.exit_code == 2
    assert "secret HF_TOKEN from: /etc/dync/a -> /etc/dync/b" in done.output


@pytest.mark.parametrize("kind", ["env", "secret_env"])
def test_units_load_what_scripts_read(kind: str) -> None:
    plan = plan_of(AGG, f"workers[0].{kind}.A_FILE=/etc/dync/a")
    files = {artifact.path: artifact.text for artifact in emit(plan, templates())}
    for unit in ("systemd", "systemd/user"):
        text = files[f"{unit}/dync-one-aggregated-0.service"]
        assert ("LoadCredential=A_FILE:/etc/dync/a" in text) == (kind == "secret_env")
        assert ("service.sh run A_FILE " in text) == (kind == "secret_env")


def test_pass_is_refused_where_a_file_gives_it(tmp_path: Path) -> None:
    plan = plan_of(AGG, "secret_env.HF_TOKEN=/etc/dync/hf-token")
    write(emit(plan, templates()), tmp_path / "bundle")
    (tmp_path / "root").mkdir()
    words = ["install", f"{tmp_path}/bundle", "--root", f"{tmp_path}/root", "--pass", "HF_TOKEN"]
    done = CliRunner().invoke(dync, words, env={"HF_TOKEN": "the caller's"})
    assert done.exit_code != 0
    assert "HF_TOKEN comes from /etc/dync/hf-token: leave --pass out" in done.output
    assert not (tmp_path / "root/etc/dync/one/environment").exists()


@pytest.mark.parametrize("name", ["DB_CREDS", "HF_TOKEN"])
@pytest.mark.parametrize("place", ["secret_env", "lmcache.secret_env", "workers[0].secret_env"])
def test_a_secret_written_there_is_not_shown(name: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(AGG)
    done = CliRunner().invoke(
        dync, ["check", f"{tmp_path}/p.yaml", "--set", f"{place}.{name}=hunter2"]
    )
    assert done.exit_code == 1
    assert "wrong-form" in done.output
    assert "hunter2" not in done.output
    (tmp_path / "p.yaml").write_text(f"{AGG}secret_env:\n  {name}: hunter2\n")
    assert "hunter2" not in CliRunner().invoke(dync, ["check", f"{tmp_path}/p.yaml"]).output


@pytest.mark.parametrize(
    ("name", "file"), [("HF_TOKEN", "hf-token"), ("GITHUB_TOKEN", "github-token")]
)
def test_the_edit_that_is_named_compiles(name: str, file: str) -> None:
    """What the warning says to write is written as it stands there."""
    [found] = compile_text(AGG, f"workers[0].env.{name}=abc").diagnostics
    assert found.rule == "secret-in-profile"
    words = f"secret_env: {{{name}: /etc/dync/{file}}}"
    assert words in (found.fix or "")
    compiled = compile_text(AGG.replace("gpus: [0]", f"gpus: [0], {words}"))
    assert compiled.diagnostics == ()
    assert compiled.resolved is not None
    [worker] = compiled.resolved.plan.workers
    assert worker.secrets[name] == f"/etc/dync/{file}"


def test_the_accounts_of_dynamos_services_reach_both_sides() -> None:
    plan = plan_of(
        "extends: dynamo-disagg.yaml",
        "discovery.backend=etcd",
        "discovery.events=nats",
        "secret_env.NATS_AUTH_TOKEN=/etc/dync/nats",
        "secret_env.ETCD_AUTH_PASSWORD=/etc/dync/etcd",
    )
    for process in plan.processes:
        if process.kind in (Kind.WORKER, Kind.FRONTEND):
            assert {"NATS_AUTH_TOKEN", "ETCD_AUTH_PASSWORD"} <= set(process.secrets)
