"""Which processes restart when a profile changes, and what `dync diff` says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compiler.cli.main import dync
from compiler.diff.restarts import Action, Bundle, Change, changes, file_lines, other_lines
from compiler.emit.bundle import emit
from compiler.emit.compared import ComparedTexts
from compiler.emit.systemd.unit_names import drivers_unit, serving_unit, target_unit
from compiler.library import templates
from compiler.process import API_KEY, Kind, Process
from tests.support import DISAGG, plan_of

REPLICAS = DISAGG.replace(
    "{role: prefill, gpus: [0]}", "{role: prefill, gpus: [0, 2], replicas: 2}"
)


def bundle(text: str = DISAGG, *overrides: str) -> Bundle:
    plan = plan_of(text, *overrides)
    return Bundle(plan=plan, texts={item.path: item.text for item in emit(plan, templates())})


def fates(found: tuple[Change, ...]) -> dict[str, Action]:
    return {str(change.process): change.action for change in found}


def made_when_asked(text: str = DISAGG, *overrides: str) -> Bundle:
    plan = plan_of(text, *overrides)
    return Bundle(plan=plan, texts=ComparedTexts(plan, templates()))


KEY = "frontend.api_key_file=/etc/key"
ALL = ("lmcache-prefill-0", "prefill-0", "decode-0", "router")


@pytest.mark.parametrize(
    ("override", "restarting"),
    [
        ("workers[1].engine_args.max_num_seqs=8", {"decode-0"}),
        ("workers[0].env.A=b", {"prefill-0"}),
        ("lmcache.chunk_size=512", {"lmcache-prefill-0", "prefill-0"}),
        ("frontend.port=9000", {"router"}),
        ("model.max_len=512", {"prefill-0", "decode-0"}),
        ("deploy.user=other", set(ALL)),
        ("workers[1].engine_args={}", set()),
    ],
)
def test_only_what_changed_restarts(override: str, restarting: set[str]) -> None:
    found = fates(changes(bundle(), bundle(DISAGG, override)))
    assert found == {
        name: Action.RESTARTS if name in restarting else Action.KEEPS for name in (*ALL[1:], ALL[0])
    }


@pytest.mark.parametrize(
    "override",
    [
        "frontend.max_request_mb=8",
        "frontend.port=9000",
        "frontend.api_key_file=/etc/other",
        "frontend.tls={certificate: /c, key: /k}",
    ],
)
def test_what_the_proxy_alone_reads_restarts_it_alone(override: str) -> None:
    found = fates(changes(bundle(DISAGG, KEY), bundle(DISAGG, KEY, override)))
    assert {name for name, fate in found.items() if fate is Action.RESTARTS} == {"proxy"}


STORE = "lmcache.tiers=[{redis: {managed: true, size_gb: 8, password_file: /etc/dync/r}}]"
ARGS = "workers[0].engine_args={additional_config: {a: 1, b: 2}}"
OVERRIDES = (
    (),
    ("workers[1].engine_args.max_num_seqs=8",),
    ("workers[0].env.A=b",),
    ("lmcache.chunk_size=512",),
    ("lmcache.cpu_cache_gb=7",),
    ("lmcache.enabled=false",),
    (STORE,),
    (STORE.replace("true,", "true, port: 7000,"),),
    ("frontend.port=9000",),
    ("model.served_name=other",),
    ("deploy.user=other",),
    ("deploy.first_port=20000",),
    ("name=other",),
    (KEY,),
    (KEY, "frontend.max_request_mb=8"),
    (KEY, "frontend.tls={certificate: /c, key: /k}"),
    (KEY, "deploy.first_port=20000"),
    (KEY, "workers[1].engine_args.max_num_seqs=8"),
    ("workers[0].engine_args={additional_config: {a: true, b: 2}}",),
    ("workers[0].engine_args={additional_config: {b: 2, a: 1}}",),
    ("workers[0].engine_args={additional_config: {a: 1.0, b: 2}}",),
)


@pytest.mark.parametrize("new", OVERRIDES, ids=str)
@pytest.mark.parametrize("old", [(), (STORE,), (KEY,), (ARGS,)], ids=str)
def test_what_is_never_looked_at_makes_no_difference(
    old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    read, made = ((kind(DISAGG, *old), kind(DISAGG, *new)) for kind in (bundle, made_when_asked))
    assert changes(*made) == changes(*read)
    assert other_lines(*made) == other_lines(*read)
    for change in changes(*read):
        if change.action is Action.RESTARTS:
            lines = [tuple(file_lines(*sides, change.process)) for sides in (made, read)]
            assert lines[0] == lines[1]


@pytest.mark.parametrize("overrides", OVERRIDES, ids=str)
def test_texts_made_when_asked_are_those_of_the_bundle(overrides: tuple[str, ...]) -> None:
    written, made = bundle(DISAGG, *overrides).texts, made_when_asked(DISAGG, *overrides).texts
    assert {path: written[path] for path in made} == dict(made)
    left = {path for path in written if path not in made}
    units = {path for path in left if path.startswith("systemd/")}
    assert left - units == {"plan.json"}
    name = plan_of(DISAGG, *overrides).name
    others = (drivers_unit(name), serving_unit(name), target_unit(name))
    system = {path for path in units if "/user/" not in path}
    assert system == {f"systemd/{unit}" for unit in others}


def _moved(process: Process) -> Process:
    return replace(process, listens=tuple(replace(one, port=1) for one in process.listens))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.FRONTEND, _moved),
        (Kind.WORKER, lambda process: replace(process, secrets={API_KEY: "/k"})),
    ],
)
def test_a_proxy_is_compared_with_what_stands_behind_it(
    kind: Kind, change: Callable[[Process], Process]
) -> None:
    """Its own part of the plan does not say where it sends requests, and whether with a key."""
    plan = plan_of(DISAGG, KEY)
    changed = (change(one) if one.kind is kind else one for one in plan.processes)
    other = replace(plan, processes=tuple(changed))
    sides = (Bundle(plan=it, texts=ComparedTexts(it, templates())) for it in (plan, other))
    assert fates(changes(*sides))["proxy"] is Action.RESTARTS


@pytest.mark.parametrize(
    ("text", "path", "restarting"),
    [
        (
            DISAGG.replace("vllm-0.32", "dynamo-1.6"),
            "lib/events/sitecustomize.py",
            {"frontend"},
        ),
        (f"{DISAGG}frontend: {{api_key_file: /etc/key}}\n", "lib/proxy.sh", {"proxy"}),
    ],
)
def test_what_a_process_has_read_of_the_bundle_restarts_it(
    text: str, path: str, restarting: set[str]
) -> None:
    old, new = bundle(text), bundle(text)
    texts = {**old.texts, path: old.texts[path] + "X=1\n"}
    before = Bundle(plan=old.plan, texts=texts)
    found = fates(changes(before, new))
    assert {name for name, fate in found.items() if fate is Action.RESTARTS} == restarting
    assert path not in other_lines(before, new)


def test_a_cache_server_takes_its_worker_along() -> None:
    found = changes(bundle(), bundle(DISAGG, "lmcache.cpu_cache_gb=7"))
    worker = next(change for change in found if change.process == "prefill-0")
    assert (worker.action, worker.because_of) == (
        Action.RESTARTS,
        "lmcache-prefill-0",
    )


def test_processes_start_and_stop() -> None:
    more = fates(changes(bundle(), bundle(REPLICAS)))
    assert more["prefill-1"] is more["lmcache-prefill-1"] is Action.STARTS
    fewer = fates(changes(bundle(REPLICAS), bundle()))
    assert fewer["prefill-1"] is fewer["lmcache-prefill-1"] is Action.STOPS
    assert set(fates(changes(None, bundle())).values()) == {Action.STARTS}


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("dync:x:999:999::/:/bin/sh\n")
    program = root / "opt/dync/stacks/vllm-0.32/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to("/usr/bin/python3")
    Path("pair.yaml").write_text(DISAGG)
    return root


def run(*words: str) -> Result:
    result = CliRunner().invoke(dync, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_diff_against_what_is_installed(image: Path) -> None:
    before = run("diff", "pair.yaml", "--root", str(image))
    assert before.exit_code == 2
    assert "router: starts\n" in before.output
    run("build", "pair.yaml")
    assert run("install", "build/pair", "--root", str(image)).exit_code == 0
    same = run("diff", "pair.yaml", "--root", str(image))
    assert (same.exit_code, same.output) == (
        0,
        "".join(f"{name}: keeps running\n" for name in (ALL[0], *ALL[1:])),
    )
    options = ("--set", "workers[1].engine_args.max_num_seqs=8", "--root", str(image))
    one = run("diff", "pair.yaml", *options)
    assert one.exit_code == 2
    assert "decode-0: restarts\n  engine max_num_seqs: not there -> 8\n" in one.output
    assert one.output.count("keeps running") == 3


@pytest.mark.usefixtures("image")
def test_diff_against_a_bundle() -> None:
    run("build", "pair.yaml", "-o", "there")
    assert run("diff", "pair.yaml", "there").exit_code == 0
    assert run("diff", "pair.yaml", "there", "--set", "frontend.port=9000").exit_code == 2


@pytest.mark.usefixtures("image")
def test_diff_of_two_bundles_names_what_it_means() -> None:
    run("build", "pair.yaml", "-o", "old")
    changed = ("--set", "lmcache.chunk_size=512", "--set", "workers[0].env.A=b c")
    run("build", "pair.yaml", "-o", "new", *changed)
    found = run("diff", "new", "old")
    assert found.exit_code == 2
    assert found.output == (
        "LMCache chunk size: 256 -> 512\n"
        "lmcache-prefill-0: restarts\n"
        "  --chunk-size: 256 -> 512\n"
        "prefill-0: restarts\n"
        "  env A: not there -> b c\n"
        "  ready body: changes\n"
        "decode-0: keeps running\n"
        "router: keeps running\n"
        "also change, and restart nothing: README.md, bin/lmcache-prefill-0.sh, "
        "bin/prefill-0.sh, launch.sh,\n"
        "  lib/built.sh, observability/dashboard.json, topology.svg\n"
    )
    same = run("diff", "old", "old")
    assert (same.exit_code, same.output.count("keeps running")) == (0, 4)
    assert run("diff", "old", "pair.yaml").exit_code == 0
    assert run("diff", "new", "pair.yaml", *changed[:2]).exit_code == 1


@pytest.mark.usefixtures("image")
def test_diff_shows_what_was_edited_in_a_bundle() -> None:
    run("build", "pair.yaml", "-o", "there")
    file = Path("there/engine/decode-0.yaml")
    file.write_text(file.read_text() + "seed: 7\n")
    found = run("diff", "there", "pair.yaml")
    assert found.exit_code == 2
    assert "decode-0: restarts\n  engine/decode-0.yaml\n    + seed: 7\n" in found.output


@pytest.mark.usefixtures("image")
def test_diff_falls_back_to_files_where_the_plans_are_alike() -> None:
    run("build", "pair.yaml", "-o", "old", "--set", "deploy.user=other")
    found = run("diff", "pair.yaml", "old")
    assert found.output.startswith("user: other -> dync\n")
    assert "  systemd/dync-pair-router.service\n    - User=other\n    + User=dync\n" in found.output


@pytest.mark.parametrize(
    "words",
    [
        ("missing.yaml",),
        ("pair.yaml", "--set", "nonsense"),
        ("pair.yaml", "nowhere"),
        ("pair.yaml", "--no-such-option"),
        (),
        ("pair.yaml", "--root", "/nowhere"),
    ],
)
@pytest.mark.usefixtures("image")
def test_diff_ends_with_1_for_every_error(words: tuple[str, ...]) -> None:
    failed = run("diff", *words)
    assert failed.exit_code == 1
    assert "rror: " in failed.output
