"""Folders of storage tiers, as `dync install` looks at them, makes them and takes them away."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler.deploy.deployment import Manager
from compiler.deploy.doctor import tiers as tier_checks
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Verdict
from compiler.deploy.install.tier_folders import make_tier_folders
from compiler.deploy.installation import Host
from compiler.deploy.probe.file_systems import filesystem
from compiler.library import load_stack
from compiler.plan import Plan
from tests.support import AGG, plan_of
from tests.systemd import test_image
from tests.systemd.test_image import run

bundle, image = test_image.bundle, test_image.image  # its fixtures


def tiers(text: str) -> str:
    return f"lmcache.tiers=[{text}]"


DISK = tiers("{disk: {path: /var/cache/k v, size_gb: 100}}")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another account")
def test_install_makes_them_for_the_account_alone_and_purge_takes_them(
    image: Path, bundle: Callable[..., Path]
) -> None:
    built = bundle(AGG, DISK)
    assert run("install", str(built), "--root", str(image)).exit_code == 0
    folder = image / "var/cache/k v/lmcache"
    status = folder.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (999, 999, 0o700)
    (folder / "m@1.data").write_bytes(b"x")
    assert run("install", str(built), "--root", str(image)).exit_code == 0
    left = run("uninstall", "one", "--root", str(image))
    assert left.exit_code == 0
    assert (folder / "m@1.data").exists()
    assert str(folder) in left.output
    assert run("install", str(built), "--root", str(image)).exit_code == 0
    assert run("uninstall", "one", "--purge", "--root", str(image)).exit_code == 0
    assert not folder.exists()


def test_what_is_missing_is_named(image: Path, bundle: Callable[..., Path]) -> None:
    text = tiers(
        "{fs: {path: /mnt/nfs}}, {redis: {managed: true, size_gb: 40, password_file: /etc/pw}}"
    )
    done = run("install", str(bundle(AGG, text)), "--root", str(image))
    assert done.exit_code == 1
    assert "there is no folder /mnt/nfs of the tier fs: mount it first" in done.output
    assert "there is no redis-server" in done.output
    assert "there is no file /etc/pw (password_file of a tier)" in done.output
    assert not (image / "mnt").exists()


def tier_problems(plan: Plan) -> list[str]:
    """List what `dync install` would refuse of the tiers on this machine."""
    of = Subject(plan=plan, stack=load_stack(plan.stack), folder=Path("/"), manager=Manager.SYSTEMD)
    return [item.line for item in tier_checks.check(of) if item.verdict is Verdict.FAIL]


def problems(monkeypatch: pytest.MonkeyPatch, kind: str, plan: Plan) -> list[str]:
    monkeypatch.setattr(tier_checks, "filesystem", lambda _: kind)
    return tier_problems(plan)


def test_file_systems_that_a_kind_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = plan_of(AGG, tiers(f"{{disk: {{path: {tmp_path}, size_gb: 0.001}}}}"))
    assert problems(monkeypatch, "ext4", disk) == []
    assert "is on tmpfs" in problems(monkeypatch, "tmpfs", disk)[0]
    gds = plan_of(AGG, tiers(f"{{gds: {{path: {tmp_path}, size_gb: 0.001}}}}"))
    assert problems(monkeypatch, "overlay", gds)
    weka = plan_of(
        AGG,
        tiers(f"{{weka: {{path: {tmp_path}}}}}"),
        "stack=vllm-0.25",
        "lmcache.mode=in_process",
        "workers[0].engine_args.enforce_eager=true",
    )
    assert problems(monkeypatch, "wekafs", weka) == []
    assert "needs wekafs" in problems(monkeypatch, "xfs", weka)[0]


def test_room_is_asked_for_all_tiers_of_a_disk_less_what_lies_there(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    half = free.f_bavail * free.f_frsize / (1 << 30) * 0.7
    one = f"{{disk: {{path: {tmp_path}/a, size_gb: {half}}}}}"
    assert tier_problems(plan_of(AGG, tiers(one))) == []
    two = f"{one}, {{nixl: {{path: {tmp_path}/b, size_gb: {half}}}}}"
    (problem,) = tier_problems(plan_of(AGG, tiers(two)))
    assert f"the tiers on {tmp_path} may grow by" in problem


def test_the_file_system_of_this_machine_is_found() -> None:
    assert filesystem(Path("/proc/self")) == "proc"
    assert filesystem(Path("/dev/shm")) == "tmpfs"


def test_a_users_own_folders_are_made_without_an_account(tmp_path: Path) -> None:
    host = Host(
        root=Path("/"),
        is_system=False,
        config=tmp_path,
        units=tmp_path,
        overrides=tmp_path,
        state=tmp_path,
        cache=tmp_path,
    )
    make_tier_folders(host, plan_of(AGG, tiers(f"{{disk: {{path: {tmp_path}/kv, size_gb: 1}}}}")))
    assert (tmp_path / "kv" / "lmcache").stat().st_mode & 0o777 == 0o700
