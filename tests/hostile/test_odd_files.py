"""What commands read beside a bundle may be anything: each ends at once, and says what is there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compiler.cli.main import dync
from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.write.bundle import write
from compiler.write.manifest import MANIFEST
from compiler.write.trees import DEEPEST, remove, walk
from tests.support import AGG, free_port, plan_of


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * 10**9)


def nonsense(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0" * 100)


KINDS = (pipe, folder, endless, listening, huge, nonsense)
READ = ("run/lock", "run/started", "run/proof.json", "logs/aggregated-0.log", "logs/launch.log")
COMMANDS = (
    ("status", "BUNDLE"),
    ("down", "BUNDLE"),
    ("verify", "BUNDLE"),
    ("doctor", "BUNDLE"),
    ("diff", "BUNDLE", "BUNDLE"),
)


def stretch(count: int) -> int:
    """Return a port from which on so many are free."""
    for first in range(21000, 30000, count):
        with ExitStack() as held, suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("odd") / "bundle"
    ports = (f"frontend.port={free_port()}", f"deploy.first_port={stretch(30)}")
    given = (*ports, f"deploy.prefix={place.parent}")
    write(emit(plan_of(AGG, *given), templates()), place)
    return place


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    shutil.copytree(written, place)
    for name in ("run", "logs"):
        (place / name).mkdir()
    return place


def run(bundle: Path, *words: str) -> Result:
    """Run a command that must neither wait for anybody nor end with a traceback."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"{words} waits")

    named = [str(bundle) if word == "BUNDLE" else word for word in words]
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    try:
        done = CliRunner().invoke(dync, named, env={"HOME": str(bundle.parent)})
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert isinstance(done.exception, SystemExit | None), (words, done.exception)
    return done


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("path", READ)
def test_what_a_launch_writes_may_be_anything(
    path: str, make: Callable[[Path], None], bundle: Path
) -> None:
    make(bundle / path)
    for words in COMMANDS:
        done = run(bundle, *words)
        if path == "run/lock" and make is not huge and words[0] in ("status", "down", "verify"):
            assert done.exit_code == 1
            assert f"cannot tell whether {bundle} runs: {bundle}/run/lock: " in done.output
    if path.endswith("0.log") and make not in (huge, nonsense):
        done = run(bundle, "logs", "BUNDLE")
        assert done.exit_code == 1
        assert f"{bundle}/{path} is no file that you may read" in done.output
    if path == "logs/launch.log":
        done = run(bundle, "up", "--no-verify", "--detach", "BUNDLE")
        assert done.exit_code == (1 if make is folder else 4)  # there is no stack


@pytest.mark.parametrize("make", [pipe, folder, endless, listening])
@pytest.mark.parametrize("path", ["README.md", "plan.json", MANIFEST, "launch.sh", "lib/dync.sh"])
def test_a_file_of_a_bundle_may_be_anything(
    path: str, make: Callable[[Path], None], bundle: Path
) -> None:
    (bundle / path).unlink()
    make(bundle / path)
    for words in (*COMMANDS, ("install", "BUNDLE", "--root", str(bundle.parent))):
        run(bundle, *words)
    assert run(bundle, "install", "BUNDLE", "--root", str(bundle.parent)).exit_code == 1


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("path", ["run/lock", "run/started", "logs/launch.log", "logs"])
def test_a_launch_names_what_it_cannot_write(
    path: str, make: Callable[[Path], None], bundle: Path
) -> None:
    if path == "logs":
        (bundle / path).rmdir()
    make(bundle / path)
    for name in os.listdir(bundle / "bin"):
        (bundle / "bin" / name).write_text("exit 0\n")  # nothing of it starts
    command = ["timeout", "-k", "1", "20", "bash", str(bundle / "launch.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if path == "run/lock" and make not in (huge, nonsense):
        assert done.returncode == 3
        assert "run/lock of this bundle is no regular file: remove it" in done.stderr
    elif path == "run/started" and make is folder:
        assert done.returncode == 3
        assert "run/messages and run/started cannot be written" in done.stderr
    elif path == "logs" and make is not folder:
        assert done.returncode == 3
        assert "logs/ and run/ of this bundle cannot be written" in done.stderr
    else:
        assert done.returncode == 4  # what it started has ended


@pytest.mark.parametrize("kind", ["key", "password"])
@pytest.mark.parametrize("make", [pipe, folder, endless, nonsense])
def test_the_file_of_a_secret_may_be_anything(
    kind: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    make(secret)
    where = '"redis://127.0.0.1:9"'
    tier = f"{{redis: {{url: {where}, password_file: {secret}}}}}"
    given = {
        "key": f"frontend.api_key_file={secret}",
        "password": f"lmcache.tiers=[{tier}]",
    }
    plan = plan_of(AGG, f"frontend.port={free_port()}", given[kind])
    write(emit(plan, templates()), tmp_path / "bundle")
    for words in (("doctor", "BUNDLE"), ("status", "BUNDLE"), ("verify", "BUNDLE")):
        run(tmp_path / "bundle", *words)
    assert str(secret) in run(tmp_path / "bundle", "doctor", "BUNDLE").output


# ---- depth


def deep(top: Path, depth: int) -> None:
    """Make folders within folders, deeper than a path can be written."""
    held = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=held)
        inner = os.open("d", os.O_RDONLY, dir_fd=held)
        os.close(held)
        held = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=held))
    os.close(held)


def test_a_folder_of_any_depth_is_removed_and_no_link_followed(tmp_path: Path) -> None:
    place, kept = tmp_path / "place", tmp_path / "kept"
    for made in (place, kept):
        made.mkdir()
    (kept / "file").write_text("mine")
    (place / "link").symlink_to(kept)
    (place / ".dync-removed-0").mkdir()
    deep(place, 3000)
    remove(place)
    assert not place.exists()
    assert (kept / "file").read_text() == "mine"


def test_walking_gives_what_the_library_gives(tmp_path: Path) -> None:
    for name in ("a/b/c", "d", "a/e"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")

    def listed(found: Iterable[tuple[str, list[str], list[str]]]) -> list[object]:
        return [*sorted((top, sorted(names), sorted(rest)) for top, names, rest in found)]

    assert listed(walk(str(tmp_path))) == listed(os.walk(str(tmp_path)))


@pytest.mark.parametrize("place", ["", "logs"])
def test_folders_of_any_depth_are_said(place: str, bundle: Path, tmp_path: Path) -> None:
    deep(bundle / place, 3000)
    try:
        for words in COMMANDS:
            run(bundle, *words)
        profile = tmp_path / "p.yaml"
        profile.write_text(AGG)
        for option in ((), ("--overwrite",)):
            done = run(bundle, "build", str(profile), "-o", "BUNDLE", *option)
            assert done.exit_code == 1
            assert f"folders lie in it more than {DEEPEST} deep" in done.output
        if not place:
            done = run(bundle, "install", "BUNDLE", "--root", str(tmp_path))
            assert done.exit_code == 1
            assert f"more than {DEEPEST} deep" in done.output
    finally:
        remove(bundle)
