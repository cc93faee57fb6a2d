"""Which processes restart when a profile changes, and what `dync diff` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compiler.cli.main import dync
from compiler.diff.restarts import Action, Bundle, Change, changes
from compiler.emit.bundle import emit
from compiler.library import templates
from tests.support import DISAGG, plan_of

REPLICAS = DISAGG.replace(
    "{role: prefill, gpus: [0]}", "{role: prefill, gpus: [0, 2], replicas: 2}"
)


def bundle(text: str = DISAGG, *overrides: str) -> Bundle:
    plan = plan_of(text, *overrides)
    return Bundle(plan=plan, texts={item.path: item.text for item in emit(plan, templates())})


def fates(found: tuple[Change, ...]) -> dict[str, Action]:
    return {str(change.process): change.action for change in found}


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
