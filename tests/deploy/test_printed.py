"""What `dync verify` and `dync status` print of what they found, byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from compiler.deploy.finding import Verdict, failed, passed, warned
from compiler.deploy.status.activity import Activity, Fill, Hits, Moved
from compiler.deploy.status.status import ProcessStatus, Status
from compiler.deploy.verify.proof import ProcessProof, Proof, Timing, Transfer
from compiler.deploy.verify.record import Record
from compiler.process import ProcessName
from compiler.report.status import print_status, status_json
from compiler.report.verify import print_proof, proof_json

PROOF = Proof(
    name="disagg",
    url="http://127.0.0.1:8000/v1",
    manager="launch.sh",
    findings=(
        passed("cache-load", "prefill-0", "LMCache served 127 of 512 tokens"),
        warned("nixl", "decode-0", "slow", "topology: agg"),
        failed("log", "prefill-0", "degraded mode", "lmcache.mode: multiprocess"),
    ),
    processes=(
        ProcessProof(name="prefill-0", verdict=Verdict.FAIL),
        ProcessProof(name="decode-0", verdict=Verdict.WARN),
    ),
    timings=(Timing(through="router", tokens=512, cold_s=2.2, warm_s=0.275),),
    transfers=(Transfer(worker="decode-0", moved_bytes=14.7e6, moves=2, moved_s=0.02),),
    took_s=3.42,
)
RECORD = Record(
    of="0" * 64,
    at="2026-11-26T05:40:11Z",
    verdict=Verdict.PASS,
    took_s=3.4,
    failures=(),
)
STATUS = Status(
    name="disagg",
    named="disagg",
    proof=RECORD,
    url="http://127.0.0.1:8000/v1",
    manager="systemd",
    generation=3,
    processes=(
        ProcessStatus(
            name=ProcessName("lmcache"),
            kind="cache_server",
            state="active (running)",
            is_ready=True,
            pid=7,
            uptime_s=90.0,
            restarts=0,
            activity=Activity(
                requests=4.0,
                lmcache=Hits(512.0, 1024.0),
                fills=(
                    Fill(tier="cpu", used_bytes=2**30, total_bytes=20 * 2**30, share=0.05),
                    Fill(tier="disk", used_bytes=3 * 2**20),
                ),
            ),
        ),
        ProcessStatus(
            name=ProcessName("decode-0"),
            kind="decode",
            state="activating (start)",
            is_ready=False,
            pid=None,
            uptime_s=200000.0,
            restarts=2,
            activity=Activity(
                requests=9.0,
                engine_cache=Hits(0.0, 0.0),
                fills=(Fill(tier="engine", share=0.5), Fill(tier="s3")),
                nixl=Moved(14.7e6, 0.02, 1.0),
            ),
        ),
    ),
    drop_ins=(Path("/etc/systemd/system/dync-disagg.target.d/a.conf"),),
)


def printed(show: object, value: object) -> list[str]:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(value, console)  # type: ignore[operator]
    console.file.close()
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_proof() -> None:
    assert printed(print_proof, PROOF) == [
        "disagg  http://127.0.0.1:8000/v1  started by launch.sh",
        "pass  prefill-0  cache-load  LMCache served 127 of 512 tokens",
        "warn  decode-0  nixl         slow",
        "                             fix: topology: agg",
        "FAIL  prefill-0  log         degraded mode",
        "                             fix: lmcache.mode: multiprocess",
        "",
        "time to first token       prompt       new   repeated   faster",
        "router                512 tokens   2.200 s    0.275 s     8.0x",
        "NIXL to    transfers     bytes    time         rate",
        "decode-0           2   14.7 MB   20 ms   0.735 GB/s",
        "",
        "FAIL prefill-0   warn decode-0",
        "FAIL disagg not proved (1 pass, 1 warn, 1 fail; 3.4 s)",
    ]


def test_a_proof_as_json() -> None:
    found = json.loads(proof_json(PROOF))
    assert (found["verdict"], found["proved"], found["started_by"]) == ("fail", False, "launch.sh")
    assert found["findings"][1] == {
        "check": "nixl",
        "subject": "decode-0",
        "verdict": "warn",
        "message": "slow",
        "fix": "topology: agg",
    }
    assert found["nixl"][0]["bytes_per_s"] == 14.7e6 / 0.02
    assert found["time_to_first_token"][0]["warm_s"] == 0.275


def test_a_status() -> None:
    assert printed(print_status, STATUS) == [
        "disagg  http://127.0.0.1:8000/v1  started by systemd, generation 3",
        "process   state                                up  restarts  requests  engine cache"
        "      LMCache  filled               NIXL",
        "lmcache   ready                             1 min         0         4             -"
        "  50% of 1024  cpu 1.0 of 20.0 GiB  -",
        f"{'':98}disk 3.0 MiB",
        "decode-0  not ready (activating (start))  2 d 7 h         2         9             0"
        "            -  engine 50%           14.7 MB",
        f"{'':98}s3 ?                 0.73 GB/s",
        f"{'':119}1 failed",
        "proved on 2026-11-26 at 05:40 UTC",
        "drop-in /etc/systemd/system/dync-disagg.target.d/a.conf",
    ]


def test_a_status_says_what_a_failed_proof_found_and_how_to_make_one() -> None:
    why = "aggregated-0 cache-store: 0 of 4 chunks of the new prompt were stored"
    failing = replace(RECORD, verdict=Verdict.FAIL, failures=(why,))
    assert printed(print_status, replace(STATUS, proof=failing, drop_ins=()))[-2:] == [
        "not proved on 2026-11-26 at 05:40 UTC:",
        f"  {why}",
    ]
    unproved = replace(STATUS, proof=None, drop_ins=())
    assert printed(print_status, unproved)[-1] == "not proved here: dync verify disagg"
    assert json.loads(status_json(unproved))["proof"] is None


def test_a_status_names_what_a_killed_installation_left() -> None:
    left = replace(STATUS, left=("dync-disagg-router.service",), drop_ins=())
    line = "dync-disagg-router.service runs on from another generation: install again, or uninstall"
    assert printed(print_status, left)[-1] == line
    assert json.loads(status_json(left))["left"] == ["dync-disagg-router.service"]


def test_a_status_as_json() -> None:
    found = json.loads(status_json(STATUS))
    assert found["proof"] == {
        "at": "2026-11-26T05:40:11Z",
        "verdict": "pass",
        "proved": True,
        "took_s": 3.4,
        "failures": [],
    }
    assert (found["ready"], found["generation"]) == (False, 3)
    assert found["processes"][0]["lmcache"] == {"found": 512.0, "asked": 1024.0, "rate": 0.5}
    assert found["processes"][1]["nixl"] == {
        "total_bytes": 14.7e6,
        "seconds": 0.02,
        "failures": 1.0,
    }
