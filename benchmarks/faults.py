"""Plant faults that a health check does not see, and ask dync verify and dync doctor for each.

Run: python -m benchmarks.faults [--out docs/verify-measured.md] [CASE…]
Needs what `make demo` needs, and some 15 minutes of two cores. A case passes when the command ends
with the status it should and says the words that name the fault.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_injection import built, by_hand, dync, prepared
from benchmarks.gpu.faults import CONNECTOR_ON_CPU
from demo.cpu_stack import STACK, launched


@dataclass(frozen=True, slots=True)
class Case:
    """One planted fault, or none: which command finds it, and a part of what it must say."""

    name: str
    found_by: str
    says: str
    run: Callable[[Path], tuple[int, str]]
    is_healthy: bool = False


def main() -> int:
    """Run the cases; 0 if each was found, or each healthy one proved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the table here")
    parser.add_argument("cases", nargs="*", help="words of the cases' names; default: all")
    options = parser.parse_args()
    rows, wrong = [], 0
    for case in CASES:
        if options.cases and not any(word in case.name for word in options.cases):
            continue
        with tempfile.TemporaryDirectory(prefix="dync-faults-") as folder:
            try:
                status, output = case.run(Path(folder))
            except RuntimeError as error:  # it did not start: the others may
                status, output = 2, json.dumps({"findings": [unstarted(str(error))]})
        line = next((text for text in said(output) if case.says in text), "")
        right = (status == 0) == case.is_healthy and bool(line)
        wrong += not right
        print(f"{'ok' if right else 'WRONG'}: {case.name}: {line or output}", flush=True)
        rows.append(f"| {case.name} | {case.found_by} | {line if right else 'NOT FOUND'} |")
    table = "\n".join(["| Fault | Found by | It says |", "|---|---|---|", *rows, ""])
    print(table)
    if options.out:
        options.out.write_text(table, encoding="utf-8")
    return 1 if wrong else 0


def unstarted(why: str) -> dict[str, str]:
    """Say that a deployment did not start, as a finding."""
    return {"subject": "launch.sh", "verdict": "fail", "message": why[-500:]}


def said(output: str) -> list[str]:
    """Return the messages of a JSON result, failures first."""
    findings = json.loads(output)["findings"]
    order = {"fail": 0, "warn": 1, "pass": 2, "skip": 3}
    findings.sort(key=lambda item: order[item["verdict"]])
    return [re.sub(r"\s+", " ", f"{item['subject']}: {item['message']}") for item in findings]


def launched_case(
    profile: str, *overrides: str, environment: Mapping[str, str] | None = None, real: bool = False
) -> Callable[[Path], tuple[int, str]]:
    """Make a case of a bundle that launch.sh starts as it was built."""

    def run(folder: Path) -> tuple[int, str]:
        bundle, _ = built(folder, profile, *overrides, real=real)
        with launched(bundle, environment):
            return dync("verify", str(bundle))

    return run


def connector_v1(folder: Path) -> tuple[int, str]:
    """Put the in-process connector into the engine file: healthy, and it never caches."""
    bundle, _ = built(folder, CONNECTOR_ON_CPU.profile)
    CONNECTOR_ON_CPU.plant(bundle)
    with launched(bundle):
        return dync("verify", str(bundle))


def cache_server_down(folder: Path) -> tuple[int, str]:
    """Kill the cache server under a worker that goes on."""
    bundle, plan = built(folder, "agg-cpu")
    with by_hand(bundle, plan) as pids:
        os.killpg(pids["lmcache"], signal.SIGKILL)
        time.sleep(1)
        return dync("verify", str(bundle))


def environment_of_a_worker(
    line: str, profile: str, worker: str, *overrides: str
) -> Callable[[Path], tuple[int, str]]:
    """Make a case of a worker that was started with one variable of its own."""

    def run(folder: Path) -> tuple[int, str]:
        bundle, plan = built(folder, profile, *overrides)
        name = line.partition("=")[0]
        script = bundle / "bin" / f"{worker}.sh"
        text = re.sub(rf"(?m)^    {name}=.*\n", "", script.read_text("utf-8"))
        script.write_text(
            text.replace("environment=(\n", f"environment=(\n    {line}\n", 1), "utf-8"
        )
        with by_hand(bundle, plan):
            return dync("verify", str(bundle))

    return run


def port_taken(folder: Path) -> tuple[int, str]:
    """Let another program listen where the worker wants to."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        bundle, _ = built(folder, "agg-cpu", f"frontend.port={other.getsockname()[1]}")
        return dync("doctor", str(bundle))


def disk_full(folder: Path) -> tuple[int, str]:
    """Put the bundle on a disk of 4 MiB that is full."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    try:
        bundle, _ = built(folder, "agg-cpu")
        with suppress(OSError), open(folder / "full", "wb") as file:
            file.write(b"0" * (4 << 20))
        return dync("doctor", str(bundle))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def wrong_version(folder: Path) -> tuple[int, str]:
    """Show the real stack through an environment that has an older lmcache first."""
    real, home = (place / "stacks" / STACK for place in (prepared(), folder))
    [packages] = real.glob("lib/python3*/site-packages")
    site = home / packages.relative_to(real)
    info = site / "lmcache-0.5.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lmcache\nVersion: 0.5.3\n")
    (site / "real.pth").write_text(f"import site; site.addsitedir({str(packages)!r})\n")
    (home / "bin").mkdir()
    (home / "bin/python").symlink_to(os.path.realpath(real / "bin/python"))
    (home / "pyvenv.cfg").write_bytes((real / "pyvenv.cfg").read_bytes())
    bundle, _ = built(folder, "agg-cpu", f"deploy.prefix={folder}")
    return dync("doctor", str(bundle))


def certificate_ends(folder: Path) -> tuple[int, str]:
    """Give the proxy a certificate that ends in three days."""
    files = [str(folder / name) for name in ("front.pem", "front.key")]
    making = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    named = ("-nodes", "-days", "3", "-subj", "/CN=front", "-out", files[0], "-keyout", files[1])
    subprocess.run([*making, *named], check=True, capture_output=True)
    tls = (f"frontend.tls.certificate={files[0]}", f"frontend.tls.key={files[1]}")
    bundle, _ = built(folder, "agg-cpu", *tls)
    return dync("doctor", str(bundle))


def key_of_two_lines(folder: Path) -> tuple[int, str]:
    """Give the proxy a key that no client can send."""
    key = folder / "key"
    key.write_text("two\nlines\n", "utf-8")
    bundle, _ = built(folder, "agg-cpu", f"frontend.api_key_file={key}")
    return dync("doctor", str(bundle))


def no_etcd(folder: Path) -> tuple[int, str]:
    """Name an etcd that does not run."""
    bundle, _ = built(
        folder,
        "dynamo-agg-cpu",
        NO_CHAT,
        "discovery.backend=etcd",
        'discovery.etcd_endpoints=["http://127.0.0.1:2999"]',
    )
    return dync("doctor", str(bundle))


TWO_WORKERS = "workers[0].replicas=2"
NO_CHAT = "workers[0].env.DYN_ENDPOINT_TYPES=completions"
CASES = (
    Case("healthy: agg", "verify", "LMCache served", launched_case("agg-cpu"), True),
    Case("healthy: disagg", "verify", "NIXL moved", launched_case("disagg-cpu", real=True), True),
    Case(
        "healthy: two workers, one cache server",
        "verify",
        "aggregated-1: LMCache served",
        launched_case("agg-cpu", TWO_WORKERS),
        True,
    ),
    Case(
        "healthy: Dynamo agg",
        "verify",
        "LMCache served",
        launched_case("dynamo-agg-cpu", NO_CHAT),
        True,
    ),
    Case(
        "healthy: Dynamo disagg",
        "verify",
        "NIXL moved",
        launched_case("dynamo-disagg-cpu", real=True),
        True,
    ),
    Case(
        "LMCacheConnectorV1 on a CPU (healthy, never caches)",
        "verify",
        "degraded mode",
        connector_v1,
    ),
    Case("cache server down", "verify", "no cache server listens", cache_server_down),
    Case(
        "chunk larger than the prompt (LMCACHE_CHUNK_SIZE=4096)",
        "verify",
        "do not fit in the longest prompt",
        launched_case("agg-cpu", environment={"LMCACHE_CHUNK_SIZE": "4096"}),
    ),
    Case(
        "ENABLE_LMCACHE=0",
        "verify",
        "runs its form without LMCache",
        launched_case("agg-cpu", environment={"ENABLE_LMCACHE": "0"}),
    ),
    Case(
        "another PYTHONHASHSEED on one of two workers that share a cache",
        "verify",
        "PYTHONHASHSEED=1",
        environment_of_a_worker("PYTHONHASHSEED=1", "agg-cpu", "aggregated-1", TWO_WORKERS),
    ),
    Case(
        "a stray LMCACHE_CONFIG_FILE",
        "verify",
        "LMCACHE_CONFIG_FILE=/etc/lmcache.yaml is in its environment",
        environment_of_a_worker("LMCACHE_CONFIG_FILE=/etc/lmcache.yaml", "agg-cpu", "aggregated-0"),
    ),
    Case("port taken", "doctor", "it is taken by pid", port_taken),
    Case("stack with another lmcache", "doctor", "0.5.3, wanted 0.5.6", wrong_version),
    Case("disk full", "doctor", "0.0 GiB free", disk_full),
    Case("a certificate that ends", "doctor", "it is good until", certificate_ends, True),
    Case("a key of two lines", "doctor", "is not one line", key_of_two_lines),
    Case("etcd that does not run", "doctor", "Connection refused", no_etcd),
)

if __name__ == "__main__":
    sys.exit(main())
