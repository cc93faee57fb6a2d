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
from compiler.deploy.installation import Host, system_host
from compiler.deploy.probe.file_systems import filesystem
from compiler.deploy.tier_place import make_folder
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


# ---- where they may not lie, and what is on the way

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another account")
THIRD, ACCOUNT = 12345, 999  # the image's dync has the second


def placed(image: Path, bundle: Callable[..., Path], folder: str) -> tuple[int, str]:
    built = bundle(AGG, tiers(f"{{disk: {{path: {folder}, size_gb: 1}}}}"))
    done = run("install", str(built), "--root", str(image))
    return done.exit_code, done.output


@pytest.mark.parametrize("target", ["/etc/systemd/system/ssh.service.d", "/root", "../usr/lib"])
def test_a_link_to_the_system_is_no_way_to_a_folder(
    image: Path, bundle: Callable[..., Path], target: str
) -> None:
    (image / "data").symlink_to(target)
    status, said = placed(image, bundle, "/data/kv")
    assert status == 1
    assert "/data/kv/lmcache leads to /" in said
    assert "which is the system's (/" in said
    assert not list(image.rglob("kv"))


def test_a_link_of_roots_to_another_disk_is_followed(
    image: Path, bundle: Callable[..., Path]
) -> None:
    (image / "data").symlink_to("mnt/nvme0")
    status, said = placed(image, bundle, "/data/kv")
    assert status == 0, said
    assert (image / "mnt/nvme0/kv/lmcache").is_dir()


@ROOT_ONLY
@pytest.mark.parametrize("is_link", [False, True])
def test_a_folder_below_a_third_accounts_is_not_made(
    image: Path, bundle: Callable[..., Path], is_link: bool
) -> None:
    home = image / "home/alice"
    home.mkdir(parents=True)
    if is_link:
        (image / "srv").mkdir(exist_ok=True)
        (home / "x").symlink_to("/srv")
        os.chown(home / "x", THIRD, THIRD, follow_symlinks=False)
    else:
        (home / "x").mkdir()
        os.chown(home / "x", THIRD, THIRD)
    status, said = placed(image, bundle, "/home/alice/x/kv")
    assert status == 1
    assert f"{home}/x, on the way to /home/alice/x/kv/lmcache, belongs to {THIRD}" in said
    assert not list(image.rglob("kv"))


@ROOT_ONLY
def test_a_folder_below_the_accounts_own_is_made(image: Path, bundle: Callable[..., Path]) -> None:
    home = image / "home/dync"
    home.mkdir(parents=True)
    os.chown(home, ACCOUNT, ACCOUNT)
    status, said = placed(image, bundle, "/home/dync/kv")
    assert status == 0, said
    assert (home / "kv/lmcache").stat().st_uid == ACCOUNT


@ROOT_ONLY
@pytest.mark.parametrize("swapped", ["link", "third"])
def test_what_is_swapped_meanwhile_is_not_entered(tmp_path: Path, swapped: str) -> None:
    """After the links were followed: root enters neither a link nor a third account's folder."""
    host = system_host(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    (tmp_path / "a").mkdir()
    if swapped == "link":
        (tmp_path / "a/b").symlink_to(secret)
    else:
        (tmp_path / "a/b").mkdir()
        os.chown(tmp_path / "a/b", THIRD, THIRD)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels|belongs to"):
        make_folder(host, tmp_path / "a/b/c/kv", (ACCOUNT, ACCOUNT), 0o700)
    assert list(secret.iterdir()) == []
    assert not list(tmp_path.rglob("kv"))


@ROOT_ONLY
def test_purge_leaves_what_a_link_leads_to(image: Path, bundle: Callable[..., Path]) -> None:
    assert placed(image, bundle, "/srv/own/kv")[0] == 0
    (image / "home/bob/kv/lmcache").mkdir(parents=True)
    os.chown(image / "home/bob/kv/lmcache", ACCOUNT, ACCOUNT)
    os.chown(image / "home/bob", THIRD, THIRD)
    (image / "srv/own/kv").rename(image / "srv/own/gone")
    (image / "srv/own/kv").symlink_to("/home/bob/kv")
    done = run("uninstall", "one", "--purge", "--root", str(image))
    assert done.exit_code == 0, done.output
    assert (image / "home/bob/kv/lmcache").is_dir()
