"""Installing below --root: generations, ownership, and what a kill or a full disk leaves."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compiler.cli.main import dync
from compiler.deploy.install import emitted, generations
from compiler.deploy.install.generations import prune
from compiler.deploy.install.install import Choices, install
from compiler.deploy.installation import Installation, system_host
from compiler.deploy.systemd import Systemd
from compiler.emit.systemd.unit_names import service_units, target_unit
from compiler.library import load_stack, templates
from compiler.plan import Plan
from compiler.write.bundle import changed_files
from tests.support import AGG, DISAGG

KILLS = 100
STACK = load_stack("vllm-0.32")
UNITS = "usr/local/lib/systemd/system"
OVERRIDES = "etc/systemd/system"


def run(*words: str) -> Result:
    result = CliRunner().invoke(dync, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an image with the account and a stack's program."""
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\ndync:x:999:999::/:/bin/sh\n")
    program = root / "opt/dync/stacks/vllm-0.32/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to("/usr/bin/python3")
    return root


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Build a profile into a folder of its own."""

    def build(text: str, *overrides: str, name: str = "bundle") -> Path:
        profile, out = tmp_path / f"{name}.yaml", tmp_path / name
        profile.write_text(text)
        words = [word for override in overrides for word in ("--set", override)]
        built = run("build", str(profile), "-o", str(out), *words)
        assert built.exit_code == 0, built.output
        return out

    return build


def at(image: Path, name: str = "pair") -> Installation:
    return Installation(host=system_host(image), name=name)


def assert_whole(image: Path, name: str = "pair") -> Plan:
    """The current generation is as dync wrote it, and every unit of it is found."""
    installation = at(image, name)
    number = installation.current
    assert number is not None
    assert changed_files(installation.folder(number)) == []
    plan = installation.plan(number)
    for unit in service_units(plan, is_system=True):
        link = os.readlink(image / UNITS / unit)
        assert link == f"/etc/dync/{name}/current/systemd/{unit}"
        assert (image / link.lstrip("/")).is_file()
    target = (image / UNITS / target_unit(name)).read_bytes()
    assert f"Requires=dync-{name}-serving.service".encode() in target
    return plan


def everything(image: Path) -> dict[str, str]:
    return {
        str(path.relative_to(image)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted(image.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_an_image_gets_generations_links_and_an_enabled_target(
    image: Path, bundle: Callable[..., Path]
) -> None:
    result = run("install", str(bundle(DISAGG)), "--root", str(image))
    assert result.exit_code == 0, result.output
    assert "generation 1 of pair is in place" in result.output
    assert_whole(image)
    wants = image / OVERRIDES / "multi-user.target.wants/dync-pair.target"
    assert os.readlink(wants) == f"/{UNITS}/dync-pair.target"
    none = run("rollback", "pair", "--root", str(image))
    assert none.exit_code == 1
    assert "no generation before 1" in none.output
    again = run("install", str(bundle(DISAGG)), "--root", str(image))
    assert "generation 1 of pair is in place already" in again.output
    assert at(image).numbers == [1]


def test_upgrade_rollback_and_uninstall(image: Path, bundle: Callable[..., Path]) -> None:
    before = everything(image)
    options = ("--root", str(image))
    run("install", str(bundle(DISAGG)), *options)
    text = DISAGG.replace(
        "{role: prefill, gpus: [0]}", "{role: prefill, gpus: [0, 2], replicas: 2}"
    )
    assert run("install", str(bundle(text)), *options).exit_code == 0
    assert len(assert_whole(image).processes) == 6
    assert (image / UNITS / "dync-pair-prefill-1.service").is_symlink()
    back = run("rollback", "pair", *options)
    assert back.exit_code == 0, back.output
    assert at(image).current == 1
    assert len(assert_whole(image).processes) == 4
    assert not (image / UNITS / "dync-pair-prefill-1.service").is_symlink()
    assert run("rollback", "pair", *options).exit_code == 0
    assert at(image).current == 2, "once more is back again"
    assert run("rollback", "pair", "--to", "1", *options).exit_code == 0
    none = run("rollback", "pair", "--to", "7", *options)
    assert none.exit_code == 1
    assert "no generation 7: there is 1, 2, and 1 is current" in none.output
    assert run("rollback", "pair", "--to", "2", *options).exit_code == 0
    assert len(assert_whole(image).processes) == 6
    gone = run("uninstall", "pair", *options)
    assert gone.exit_code == 0, gone.output
    assert everything(image) == before
    assert run("uninstall", "pair", *options).exit_code == 1


def test_old_generations_are_dropped_but_not_those_that_run(
    image: Path, bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        run("install", str(bundle(DISAGG, f"deploy.drain_s={number}")), "--root", str(image))
        assert at(image).numbers == list(range(max(1, number - 3), number + 2))
    assert run("rollback", "pair", "--to", "4", "--root", str(image)).exit_code == 0
    monkeypatch.setattr(generations, "KEPT", 1)
    prune(at(image), running={5})
    assert at(image).numbers == [4, 5, 8]


def test_what_is_not_dyncs_is_not_touched(image: Path, bundle: Callable[..., Path]) -> None:
    foreign = image / UNITS / "dync-pair-router.service"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("[Service]\nExecStart=/bin/true\n")
    before = everything(image)
    refused = run("install", str(bundle(DISAGG)), "--root", str(image))
    assert refused.exit_code == 1
    assert str(foreign) in refused.output
    assert "--overwrite" in refused.output
    assert everything(image) == before
    assert run("install", str(bundle(DISAGG)), "--root", str(image), "--overwrite").exit_code == 0
    assert_whole(image)
    kept = foreign.with_name(foreign.name + ".replaced-by-dync")
    assert kept.read_text() == before[f"{UNITS}/{foreign.name}"]


@pytest.mark.parametrize("command", ["install", "rollback", "uninstall"])
def test_an_edited_generation_stops_every_command(
    command: str, image: Path, bundle: Callable[..., Path]
) -> None:
    first = bundle(DISAGG)
    run("install", str(first), "--root", str(image))
    run("install", str(bundle(DISAGG, "deploy.drain_s=31")), "--root", str(image))
    edited = at(image).folder(2) / "engine/decode-0.yaml"
    edited.write_text(edited.read_text() + "max-num-seqs: 3\n")
    before = everything(image)
    words = {
        "install": (str(bundle(DISAGG, "deploy.drain_s=32")),),
        "rollback": ("pair",),
        "uninstall": ("pair",),
    }[command]
    refused = run(command, *words, "--root", str(image))
    assert refused.exit_code == 1
    assert "engine/decode-0.yaml" in refused.output
    assert everything(image) == before
    assert run(command, *words, "--root", str(image), "--overwrite").exit_code == 0


def test_an_overriding_unit_is_named_and_a_drop_in_kept(
    image: Path, bundle: Callable[..., Path]
) -> None:
    run("install", str(bundle(DISAGG)), "--root", str(image))
    drop_in = image / OVERRIDES / "dync-pair-decode-0.service.d/mine.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nNice=5\n")
    newer = bundle(DISAGG, "deploy.drain_s=31")
    kept = run("install", str(newer), "--root", str(image))
    assert kept.exit_code == 0
    assert f"kept drop-in {drop_in}" in kept.output
    (image / OVERRIDES / "dync-pair-decode-0.service").write_text("[Service]\n")
    refused = run("install", str(bundle(DISAGG)), "--root", str(image))
    assert refused.exit_code == 1
    assert "system/dync-pair-decode-0.service" in refused.output
    (image / OVERRIDES / "dync-pair-decode-0.service").unlink()
    assert f"kept drop-in {drop_in}" in run("uninstall", "pair", "--root", str(image)).output
    assert drop_in.exists()


def test_an_edited_bundle_is_not_installed(image: Path, bundle: Callable[..., Path]) -> None:
    made = bundle(DISAGG)
    (made / "systemd/dync-pair-router.service").write_text("[Service]\n")
    refused = run("install", str(made), "--root", str(image))
    assert refused.exit_code == 1
    assert "systemd/dync-pair-router.service" in refused.output
    assert not (image / "etc/dync").exists()


def test_units_that_systemd_refuses_are_not_placed(
    image: Path, bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = templates()
    spoilt["service.j2"] = spoilt["service.j2"].replace("KillMode=mixed", "KillMode=mxed")
    monkeypatch.setattr(emitted, "templates", lambda: spoilt)
    before = everything(image)
    refused = run("install", str(bundle(DISAGG)), "--root", str(image), "--overwrite")
    assert refused.exit_code == 1
    assert "mxed" in refused.output
    assert everything(image) == before


def test_what_is_missing_is_named_at_once(tmp_path: Path, bundle: Callable[..., Path]) -> None:
    root = tmp_path / "bare"
    root.mkdir()
    text = AGG.replace("Qwen/Qwen3-0.6B", "/srv/models/none")
    refused = run("install", str(bundle(text)), "--root", str(root))
    assert refused.exit_code == 1
    assert "dync stack install vllm-0.32 --accelerator cuda --prefix /opt/dync" in refused.output
    assert "give --create-user" in refused.output
    assert "there is no model folder /srv/models/none" in refused.output
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("words", [("install", "."), ("status", "none"), ("logs", "none")])
def test_what_is_no_deployment(words: tuple[str, ...]) -> None:
    refused = run(*words)
    assert refused.exit_code == 1
    assert "Error: " in refused.output


def test_an_install_killed_at_any_moment_leaves_one_whole_generation(
    image: Path, bundle: Callable[..., Path]
) -> None:
    """100 kills at random points; the two bundles differ in their set of units too."""
    text = DISAGG.replace(
        "{role: prefill, gpus: [0]}", "{role: prefill, gpus: [0, 2], replicas: 2}"
    )
    bundles = [bundle(DISAGG, name="a"), bundle(text, name="b")]
    host = system_host(image)
    begun = time.monotonic()
    install(bundles[0], host, Choices(), lambda _: None, stack=STACK)
    took = time.monotonic() - begun
    chance, killed, seen = random.Random(4), 0, set()
    for number in range(KILLS):
        child = os.fork()
        if child == 0:
            install(bundles[(number + 1) % 2], host, Choices(), lambda _: None, stack=STACK)
            os._exit(0)
        time.sleep(chance.uniform(0, 2 * took))
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        plan = assert_whole(image)
        seen.add(len(plan.processes))
    assert killed > KILLS / 4
    assert seen == {4, 6}
    folder = at(image).link / "systemd"
    units = [*service_units(plan, is_system=True), target_unit("pair")]
    said = Systemd(True).verify(folder, units)
    assert [line for line in said if "is not executable" not in line] == []
    install(bundles[1], host, Choices(), lambda _: None, stack=STACK)
    assert_whole(image)
    assert [path.name for path in image.rglob(".*dync-*")] == []
    links = {path.name for path in (image / UNITS).iterdir()}
    plan = at(image).plan(at(image).current or 0)
    assert links == {*at(image).services(plan), "dync-pair.target"}
