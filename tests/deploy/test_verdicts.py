"""The verdicts of `dync verify`, on metrics that real engines showed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.deploy.finding import Finding, Verdict
from compiler.deploy.probe.cache_server import parse_status
from compiler.deploy.probe.counters import parse_counters
from compiler.deploy.probe.sockets import Ownership
from compiler.deploy.status import activity
from compiler.deploy.verify import tier_counts as tiers
from compiler.deploy.verify.judge import judge_answers, judge_cache, judge_transfer
from compiler.deploy.verify.log_scan import scan
from compiler.deploy.verify.prompt import prompt_tokens, unique_prompt
from compiler.deploy.verify.samples import (
    CacheSample,
    Probe,
    TransferSample,
    cache_sample,
    transfer_sample,
)
from compiler.deploy.verify.snapshot import Snapshot
from compiler.library import tier_specs
from compiler.plan import Plan
from compiler.process import Process, ProcessName, Tier
from tests.support import compile_file, plan_in, with_launch

RECORDED = Path(__file__).parent / "recorded"
ROOT = Path(__file__).resolve().parents[2]
PROBE = Probe(tokens=512, chunk=128)
NOBODYS = Ownership({})


def recorded(case: str, tag: str) -> Snapshot:
    return Snapshot(
        {
            ProcessName(path.name.split(".")[0]): parse_counters(path.read_text("utf-8"))
            for path in (RECORDED / case).glob(f"*.{tag}.prom")
        }
    )


def objects(case: str, name: str, tag: str) -> int:
    text = (RECORDED / case / f"{name}.{tag}.json").read_text("utf-8")
    return parse_status(json.loads(text)).objects


def plan(profile: str) -> Plan:
    return plan_in(compile_file(ROOT / "profiles" / f"{profile}.yaml"))


def process(of: Plan, name: str) -> Process:
    return next(item for item in of.processes if item.name == name)


def sample(case: str, profile: str, worker: str, server: str) -> CacheSample:
    """Read a recording as a proof of its deployment does."""
    of = plan(profile)
    stored = objects(case, server, "cold") - objects(case, server, "before")
    between = (recorded(case, "cold"), recorded(case, "warm"))
    return cache_sample(process(of, worker), process(of, server), PROBE, between, stored)


@pytest.fixture
def served() -> CacheSample:
    return sample("disagg", "disagg-cpu", "prefill-0", "lmcache-prefill-0")


def verdicts(found: list[Finding]) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in found}


def test_the_engines_own_cache_is_on_and_lmcache_brought_the_last_block(
    served: CacheSample,
) -> None:
    assert (served.own, served.loaded, served.found) == (384.0, 127.0, 512.0)
    found = list(judge_cache(served))
    assert verdicts(found) == {"cache-store": Verdict.PASS, "cache-load": Verdict.PASS}
    assert found[0].message == "4 of 4 chunks of the new prompt were stored"
    assert found[1].message == (
        "LMCache served 127 of 512 tokens of the repeated prompt, the engine's own cache 384"
    )


def test_a_connector_that_gave_up_is_not_taken_for_a_cache() -> None:
    """The engine's own cache serves the repeated prompt; the worker is healthy all the time."""
    read = sample("connector-v1", "agg-cpu", "aggregated-0", "lmcache")
    assert read.own == 384.0
    assert read.stored_objects == 0
    found = list(judge_cache(read))
    assert verdicts(found) == {"cache-store": Verdict.FAIL, "cache-load": Verdict.FAIL}
    assert "which is not LMCache" in found[1].message
    log = (RECORDED / "connector-v1" / "aggregated-0.log").read_text("utf-8")
    named = [finding for finding in scan("aggregated-0", log) if finding.verdict is Verdict.FAIL]
    assert any("degraded mode" in finding.message for finding in named)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loaded": 0.0, "found": 0.0, "own": 0.0}, "LMCache served nothing of the repeated"),
        ({"loaded": 0.0, "found": 0.0}, "384 tokens came from the engine's own cache"),
        ({"loaded": 0.0}, "the cache server found 512 tokens"),
        ({"loaded": 0.0, "asked": 0.0}, "the engine did not ask LMCache"),
    ],
)
def test_how_far_a_prompt_came(served: CacheSample, change: dict[str, float], says: str) -> None:
    found = list(judge_cache(replace(served, **change)))  # type: ignore[arg-type]
    assert found[-1].verdict is Verdict.FAIL
    assert says in found[-1].message
    assert "dync logs" in found[-1].fix


@pytest.mark.parametrize(("own", "verdict"), [(512.0, Verdict.SKIP), (511.0, Verdict.FAIL)])
def test_an_engine_that_has_all_that_was_found_has_nothing_to_load(
    served: CacheSample, own: float, verdict: Verdict
) -> None:
    """Seen with layers that have a state: LMCache looks up all but the last token, as vLLM does."""
    found = list(judge_cache(replace(served, loaded=0.0, own=own)))
    assert found[-1].verdict is verdict
    assert "512 tokens of the repeated prompt" in found[-1].message


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"stored_objects": 0}, Verdict.FAIL),
        ({"stored_objects": 3}, Verdict.WARN),
        ({"stored_objects": 5}, Verdict.PASS),
    ],
)
def test_what_was_stored(served: CacheSample, change: dict[str, int], verdict: Verdict) -> None:
    found = list(judge_cache(replace(served, **change)))  # type: ignore[arg-type]
    assert verdicts(found)["cache-store"] is verdict


@pytest.mark.parametrize(
    ("objects", "verdict", "says"),
    [
        (8, Verdict.PASS, "4 of 4"),  # on two H200 of one worker: 32 objects for 16 chunks
        (7, Verdict.WARN, "3 of 4"),
        (4, Verdict.PASS, "4 of 4"),  # latent attention: one for all ranks
        (3, Verdict.WARN, "3 of 4"),
        (0, Verdict.FAIL, "0 of 4"),
    ],
)
def test_each_rank_stores_its_part_of_a_chunk(
    served: CacheSample, objects: int, verdict: Verdict, says: str
) -> None:
    found = next(judge_cache(replace(served, ranks=2, stored_objects=objects)))
    assert found.verdict is verdict
    assert found.message == f"{says} chunks of the new prompt were stored"


def test_counters_that_are_not_there_prove_nothing(served: CacheSample) -> None:
    found = list(judge_cache(replace(served, stored_objects=None, loaded=None)))
    assert verdicts(found) == {"cache-load": Verdict.SKIP}


def test_what_nixl_brings_to_decode_is_not_counted_as_lmcache(served: CacheSample) -> None:
    found = list(judge_cache(replace(served, receives=True)))
    assert verdicts(found) == {"cache-store": Verdict.PASS, "cache-load": Verdict.SKIP}


@pytest.fixture
def moved() -> TransferSample:
    """A machine that stood still while NIXL moved: 12.7 s for what took a second to compute."""
    start, stored_at, after = (recorded("disagg", tag) for tag in ("before", "cold", "warm"))
    decode = process(plan("disagg-cpu"), "decode-0")
    computed = stored_at.grown(
        start, ProcessName("prefill-0"), "vllm:request_prefill_time_seconds_sum"
    )
    return transfer_sample(decode, start, stored_at, after, computed)


def test_a_transfer_slower_than_computing_is_said(moved: TransferSample) -> None:
    assert moved.moves == 2
    assert moved.moved_bytes == 14745600.0
    assert moved.first_s is not None
    assert moved.compute_s is not None
    assert moved.first_s > moved.compute_s
    found = judge_transfer(moved)
    assert found.verdict is Verdict.WARN
    assert "computing it" in found.message
    assert "topology: agg" in found.fix


def test_a_transfer_names_its_rate(moved: TransferSample) -> None:
    found = judge_transfer(replace(moved, moved_s=0.02, first_s=0.01))
    assert found.verdict is Verdict.PASS
    assert found.message == "NIXL moved 14.7 MB in 2 transfers and 20 ms, 0.737 GB/s"


def test_ranks_that_read_at_once_are_not_added_up(moved: TransferSample) -> None:
    start, stored_at, after = (recorded("disagg", tag) for tag in ("before", "cold", "warm"))
    decode = with_launch(
        process(plan("disagg-cpu"), "decode-0"), engine_args={"tensor_parallel_size": 2}
    )
    assert moved.first_s is not None
    found = transfer_sample(decode, start, stored_at, after, moved.compute_s)
    assert (found.moved_s, found.first_s) == (moved.moved_s / 2, moved.first_s / 2)
    assert found.moved_bytes == moved.moved_bytes
    said = judge_transfer(replace(found, moved_s=0.01, first_s=0.005)).message
    assert said == "NIXL moved 14.7 MB in 2 transfers of 2 ranks at once and 10 ms, 1.47 GB/s"


@pytest.mark.parametrize(
    ("change", "verdict", "says"),
    [
        ({"moved_bytes": 0.0}, Verdict.FAIL, "moved no byte"),
        ({"moved_bytes": None}, Verdict.SKIP, "no vllm:nixl_bytes"),
        ({"failures": 1.0}, Verdict.FAIL, "1 NIXL transfers failed"),
    ],
)
def test_transfers_that_do_not_work(
    moved: TransferSample, change: dict[str, float | None], verdict: Verdict, says: str
) -> None:
    found = judge_transfer(replace(moved, **change))  # type: ignore[arg-type]
    assert found.verdict is verdict
    assert says in found.message


@pytest.mark.parametrize(
    ("warm", "verdict"),
    [
        ({"a": -0.5, "b": -1.5}, Verdict.PASS),
        ({"a": -0.56, "b": -1.45}, Verdict.PASS),  # bfloat16's noise, as measured on an H100
        ({"a": -0.68, "b": -1.5}, Verdict.WARN),
        ({"a": -0.99, "b": -1.1}, Verdict.FAIL),
        ({"b": -1.5, "c": -2.0}, Verdict.FAIL),
        ({}, Verdict.SKIP),
    ],
)
def test_answers_that_agree(warm: dict[str, float], verdict: Verdict) -> None:
    assert judge_answers("router", {"a": -0.5, "b": -1.5}, warm).verdict is verdict


@pytest.mark.parametrize(
    ("chunk", "longest", "wished", "tokens"),
    [
        (128, 4095, 512, 512),
        (256, 4095, 512, 512),
        (300, 4095, 512, 600),
        (2048, 4095, 512, None),  # two chunks and one token of the answer are too many
        (2047, 4095, 512, 4094),
        (4096, 4095, 512, None),
        (256, 600, 4096, 512),
    ],
)
def test_prompts_are_whole_chunks(
    chunk: int, longest: int, wished: int, tokens: int | None
) -> None:
    assert prompt_tokens(chunk, longest, wished) == tokens


def test_prompts_are_new() -> None:
    first, second = unique_prompt(512), unique_prompt(512)
    assert len(first) == 512
    assert first[:16] != second[:16]


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("\x1b[31mSystem will operate in degraded mode (recompute)\x1b[0m", Verdict.FAIL),
        ("Failed to initialize/re-establish remote connection: AUTH", Verdict.FAIL),
        ("OSError: [Errno 28] No space left on device", Verdict.FAIL),
        ("Insufficient /dev/shm capacity for 20 GB, falling back to pickle", Verdict.WARN),
        ("NIXL compatibility hash mismatch", Verdict.FAIL),
        (
            "AssertionError: Local block size 32 is not divisible by remote block size 64",
            Verdict.FAIL,
        ),
        ("FileStore::keep_alive failed opening owned file path=x", Verdict.FAIL),
    ],
)
def test_signs_in_a_log(line: str, verdict: Verdict) -> None:
    found = list(scan("w", f"all is well\n{line}\nall is well\n"))
    assert [finding.verdict for finding in found] == [verdict]
    assert found[0].fix


def test_a_sign_that_has_passed_is_a_warning() -> None:
    """As a worker's log said it on a machine that stood still for half a minute."""
    gone = "LMCache WARNING: LMCache server is unhealthy — entering degraded mode\n"
    back = "LMCache WARNING: LMCache server is healthy again — resuming normal operation\n"
    assert [item.verdict for item in scan("w", gone)] == [Verdict.FAIL]
    [over] = scan("w", gone + back)
    assert over.verdict is Verdict.WARN
    assert ", and is over: LMCache WARNING" in over.message
    assert [item.verdict for item in scan("w", gone + back + gone)] == [Verdict.FAIL]


def test_a_healthy_log_has_no_sign() -> None:
    assert list(scan("w", "INFO: GET /health 200 OK\nNIXL is available\n")) == []


# ---- tiers


def made(kind: str, place: str, folder: str = "") -> Tier:
    return Tier(kind=kind, place=place, folder=folder, persistent=True, shared=True)


def with_tiers(*found: Tier) -> Plan:
    """Return a plan whose cache server has these tiers."""
    built = plan("agg-cpu")
    return replace(
        built,
        processes=tuple(
            replace(process, tiers=found) if process.name == "lmcache" else process
            for process in built.processes
        ),
    )


def tier_findings(
    tier: Tier, monkeypatch: pytest.MonkeyPatch, *, was_asked: bool, store: Callable[[], None]
) -> list[Finding]:
    """Judge one tier of one process around what stores in it."""
    of = with_tiers(tier)
    monkeypatch.setattr(tiers, "_SETTLED_S", 0.3)
    before = tiers.count_tiers(of, tier_specs(of), NOBODYS)
    store()
    return list(tiers.judge_tiers(of, tier_specs(of), before, NOBODYS, was_asked=was_asked))


def test_a_tier_that_gets_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").touch()
    tier = made("disk", str(tmp_path), str(tmp_path))
    [found] = tier_findings(tier, monkeypatch, was_asked=True, store=(tmp_path / "new").touch)
    assert (found.verdict, found.subject) == (Verdict.PASS, "lmcache disk")
    assert found.message == f"{tmp_path} got 1 objects of new prompts"


@pytest.mark.parametrize(
    ("folder", "kind", "was_asked", "said"),
    [
        (".", "disk", True, "fail: its place got nothing of a new prompt; it holds 0 objects"),
        (".", "disk", False, "skip: its place answers; no prompt was stored to show more"),
        ("gone", "fs", True, "fail: its place: there is no folder gone"),
        (".", "s3", True, "fail: its place: the metrics of lmcache do not answer"),
        # Reached by TLS: no server is in the plan, and its keys are not counted.
        (".", "valkey", True, "fail: its place: the metrics of lmcache do not answer"),
    ],
)
def test_tiers_that_do_not_show(
    folder: str, kind: str, was_asked: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "read_counters", lambda _: None)
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.chdir(place)
        tier = made(kind, "its place", folder)
        [found] = tier_findings(tier, monkeypatch, was_asked=was_asked, store=lambda: None)
        assert f"{found.verdict.value}: {found.message}" == said
        monkeypatch.undo()


def test_a_kind_that_nobody_counts_is_counted_by_its_cache_server_if_it_is_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = iter([7, 11, 11])
    name = "lmcache_mp_l2_store_completed_objects_chunks_total"
    monkeypatch.setattr(
        tiers, "read_counters", lambda _: parse_counters(f"{name} {next(held)}.0\n")
    )
    [found] = tier_findings(made("s3", "a bucket"), monkeypatch, was_asked=True, store=lambda: None)
    assert found.message == "a bucket got 4 objects of new prompts"
    two = with_tiers(made("s3", "a bucket"), made("gcs", "another"))
    found_both = list(tiers.judge_tiers(two, tier_specs(two), {}, NOBODYS, was_asked=True))
    assert [finding.verdict for finding in found_both] == [Verdict.SKIP, Verdict.SKIP]


def test_what_tiers_hold_is_read_from_their_cache_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cache server with one tier on a file system showed it."""
    counters = parse_counters('lmcache_mp_l2_usage_bytes{l2_name="fs"} 1.4221312e+07\n')
    monkeypatch.setattr(activity, "read_counters", lambda _: counters)
    status = parse_status(
        json.loads((RECORDED / "disagg" / "lmcache-prefill-0.warm.json").read_text("utf-8"))
    )
    monkeypatch.setattr(activity, "server_status", lambda _: status)
    server = process(plan("agg-cpu"), "lmcache")
    fills = activity.activity(server, {}).fills
    assert [(fill.tier, fill.used_bytes) for fill in fills] == [
        ("cpu", 38338560),
        ("fs", 14221312),
    ]


def test_a_tier_of_an_unknown_stack_still_has_its_folder(tmp_path: Path) -> None:
    """What it holds cannot be counted; that its folder is gone is a failure all the same."""
    tiers_of = (made("raw", "one", str(tmp_path)), made("raw", "other", str(tmp_path / "gone")))
    found = list(tiers.judge_tiers(with_tiers(*tiers_of), {}, {}, NOBODYS, was_asked=True))
    assert [item.verdict for item in found] == [Verdict.SKIP, Verdict.FAIL]
    assert found[1].message == f"other: there is no folder {tmp_path / 'gone'}"
