"""A bundle is written whole or not at all, and nothing of anybody else's is ever touched."""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compiler.bundle_paths import STATE_FOLDERS
from compiler.emit.artifact import Artifact
from compiler.write.bundle import write
from compiler.write.manifest import MANIFEST, NotWritten

ROOT = Path(__file__).resolve().parents[2]
KILLS = 200


def bundle(word: str, files: int = 6) -> list[Artifact]:
    """Return a bundle that differs from another word's in every file and in its set of files."""
    made = [Artifact(path=f"bin/{word}.sh", text=f"echo {word}\n", executable=True)]
    made += [Artifact(path=f"engine/{n}.yaml", text=f"{word}: {n}\n" * 50) for n in range(files)]
    return made


OLD, NEW = bundle("old"), bundle("new")


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
        and path.name != MANIFEST
        and path.relative_to(folder).parts[0] not in STATE_FOLDERS
    }


def is_whole(folder: Path, artifacts: list[Artifact]) -> bool:
    digests = json.loads((folder / MANIFEST).read_text())["files"]
    texts = {artifact.path: artifact.text for artifact in artifacts}
    expected = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}
    return tree(folder) == texts and digests == expected


def beside(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir() if path != place)


def in_child(work: Callable[[], object]) -> int:
    """Run work in a forked child; return the child's pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "build" / "agg"


@pytest.fixture
def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        @staticmethod
        def renameat2(*_: Any) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc)


def test_a_first_build_writes_everything_with_its_modes(place: Path) -> None:
    assert write(OLD, place)
    assert is_whole(place, OLD)
    assert beside(place) == []
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*")}
    assert modes["old.sh"] == 0o755
    assert modes["0.yaml"] == 0o644
    assert stat.S_IMODE(place.stat().st_mode) == 0o755


def test_the_same_bundle_again_changes_nothing(place: Path) -> None:
    write(OLD, place)
    before = {path: path.stat().st_mtime_ns for path in (place, *place.rglob("*"))}
    assert not write(OLD, place)
    assert {path: path.stat().st_mtime_ns for path in (place, *place.rglob("*"))} == before


def test_another_bundle_replaces_all_files(place: Path) -> None:
    write(OLD, place)
    assert write(NEW, place)
    assert is_whole(place, NEW)
    assert beside(place) == []


def test_an_empty_folder_is_filled(place: Path) -> None:
    place.mkdir(parents=True)
    assert write(OLD, place)
    assert is_whole(place, OLD)


def test_a_lost_file_is_written_again(place: Path) -> None:
    write(OLD, place)
    (place / "bin/old.sh").unlink()
    assert write(OLD, place)
    assert is_whole(place, OLD)


def test_logs_and_locks_survive_a_rebuild_as_the_same_files(place: Path) -> None:
    write(OLD, place)
    for name in ("logs/worker.log", "logs/old/worker.log", "run/lock"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(name)
    inodes = {path: path.stat().st_ino for path in place.glob("[lr]*/**/*") if path.is_file()}
    with (place / "logs/worker.log").open("a") as log:
        assert write(NEW, place)
        log.write(" goes on")
    assert len(inodes) == 3
    assert {path: path.stat().st_ino for path in inodes} == inodes
    assert (place / "logs/worker.log").read_text() == "logs/worker.log goes on"
    assert is_whole(place, NEW)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_dync_did_not_write_is_not_touched(place: Path, overwrite: bool) -> None:
    place.mkdir(parents=True)
    (place / "thesis.tex").write_text("years of work")
    before = (place.stat().st_mtime_ns, (place / "thesis.tex").stat().st_mtime_ns)
    with pytest.raises(NotWritten, match="was not written by dync: name another place"):
        write(OLD, place, overwrite=overwrite)
    assert (place.stat().st_mtime_ns, (place / "thesis.tex").stat().st_mtime_ns) == before
    assert tree(place) == {"thesis.tex": "years of work"}
    assert beside(place) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bin/old.sh", lambda file: file.write_text("edited")),
        ("notes.txt", lambda file: file.write_text("mine")),
        ("bin/more/notes.txt", lambda file: (file.parent.mkdir(), file.write_text("mine"))),
        ("bin/old.sh", lambda file: (file.unlink(), file.symlink_to("/etc/hostname"))),
        ("link", lambda file: file.symlink_to("/etc")),
    ],
    ids=["edited", "added", "added-below", "file-to-link", "link-to-folder"],
)
def test_a_bundle_changed_by_hand_is_refused_by_name_without_overwrite(
    place: Path, name: str, change: Callable[[Path], object]
) -> None:
    write(OLD, place)
    change(place / name)
    before = tree(place)
    with pytest.raises(NotWritten, match=name) as refused:
        write(NEW, place)
    assert "--overwrite" in str(refused.value)
    assert tree(place) == before
    assert beside(place) == []
    assert write(NEW, place, overwrite=True)
    assert is_whole(place, NEW)
    assert Path("/etc/hostname").exists()


def test_many_changed_files_are_listed_in_short(place: Path) -> None:
    write(OLD, place)
    for number in range(6):
        (place / f"engine/{number}.yaml").write_text("edited")
    with pytest.raises(NotWritten, match=r"engine/0\.yaml.*, …"):
        write(NEW, place)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"files": {"a": 1}}',
        '{"files": "ab"}',
        '{"files": 3}',
        '{"files": []}',
        "\xff",
    ],
)
def test_a_damaged_manifest_is_refused_in_words(place: Path, text: str) -> None:
    write(OLD, place)
    (place / MANIFEST).write_bytes(text.encode("latin-1"))
    before = tree(place)
    with pytest.raises(NotWritten, match=r"\.dync\.json|was changed"):
        write(NEW, place)
    assert tree(place) == before


def test_a_file_in_the_place_of_the_folder_is_refused(place: Path) -> None:
    place.parent.mkdir()
    place.write_text("mine")
    with pytest.raises(NotWritten, match="is not a folder: name another place with -o"):
        write(OLD, place, overwrite=True)
    assert place.read_text() == "mine"


def test_a_file_on_the_way_to_the_folder_is_refused(place: Path) -> None:
    place.parent.write_text("mine")
    with pytest.raises(NotWritten, match=r"cannot write|is not a folder"):
        write(OLD, place)
    assert place.parent.read_text() == "mine"


def test_an_unwritable_parent_is_refused_in_words(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(OLD, place)
    if os.geteuid():
        place.parent.chmod(0o555)
    else:  # root writes anywhere

        def refuse(**_: Any) -> str:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr("tempfile.mkdtemp", refuse)
    try:
        with pytest.raises(NotWritten, match="Permission denied; nothing was changed"):
            write(NEW, place)
    finally:
        place.parent.chmod(0o755)
    assert is_whole(place, OLD)
    assert beside(place) == []


def test_a_symlinked_place_stays_a_link_to_the_new_bundle(place: Path, tmp_path: Path) -> None:
    write(OLD, place)
    link = tmp_path / "current"
    link.symlink_to(place)
    assert write(NEW, link)
    assert link.is_symlink()
    assert is_whole(place, NEW)
    assert beside(place) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "current"]


def test_a_link_to_nothing_is_followed(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(place)
    assert write(OLD, link)
    assert link.is_symlink()
    assert is_whole(place, OLD)


@pytest.mark.parametrize("name", ["a b", "[x]*?", "-o", "ü🦜", "line\nbreak", "$(id)"])
def test_any_name_of_a_folder_will_do(tmp_path: Path, name: str) -> None:
    assert write(OLD, tmp_path / name)
    assert write(NEW, tmp_path / name)
    assert is_whole(tmp_path / name, NEW)
    assert beside(tmp_path / name) == []


@pytest.mark.usefixtures("without_exchange")
@pytest.mark.parametrize("call", ["os.fsync", "os.rename", "os.link", "os.chmod"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_refuses_leaves_the_old_bundle(
    place: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    write(OLD, place)
    (place / "logs").mkdir()
    (place / "logs/worker.log").write_text("log")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(call, refuse)
        with pytest.raises(NotWritten, match=os.strerror(code)):
            write(NEW, place)
    assert is_whole(place, OLD)
    assert (place / "logs/worker.log").read_text() == "log"
    assert beside(place) == []


def test_a_full_disk_leaves_the_old_bundle(place: Path) -> None:
    write(OLD, place)
    large = [*NEW, Artifact(path="plan.json", text="x" * 100_000)]

    def build() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises(NotWritten, match="File too large; nothing was changed"):
            write(large, place)

    assert ended(in_child(build)) == 0
    assert is_whole(place, OLD)
    assert beside(place) == []


def test_what_a_killed_build_left_is_swept(place: Path) -> None:
    write(OLD, place)
    left = place.parent / ".agg.dync-abc123"
    (left / "bin").mkdir(parents=True)
    (left / "bin/half.sh").write_text("half")
    other = place.parent / ".agg2.dync-abc123"
    other.mkdir()
    write(NEW, place)
    assert not left.exists()
    assert other.exists(), "another bundle's"


def test_what_a_running_build_holds_is_not_swept(place: Path) -> None:
    write(OLD, place)
    held = place.parent / ".agg.dync-abc123"
    held.mkdir()
    handle = os.open(held, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        write(NEW, place)
        assert held.exists()
    finally:
        os.close(handle)
    write(OLD, place)
    assert not held.exists()


def test_two_builds_at_once_leave_one_whole_bundle(place: Path) -> None:
    for _ in range(15):
        children = [in_child(partial(write, made, place)) for made in (OLD, NEW, OLD)]
        assert all(ended(child) in (0, 1) for child in children)
        assert is_whole(place, OLD) or is_whole(place, NEW)
    write(OLD, place)
    assert is_whole(place, OLD)
    assert beside(place) == []


@pytest.fixture
def quick_place() -> Iterator[Path]:
    """Return a place in memory where there is one: 200 builds would wait for a disk most of all."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dync-write-", dir=memory) as folder:
        yield Path(folder) / "agg"


def test_a_build_killed_at_any_moment_leaves_the_old_bundle_or_the_new_one(
    quick_place: Path,
) -> None:
    place = quick_place
    write(OLD, place)
    moment = random.Random(7)
    began = time.monotonic()
    assert ended(in_child(lambda: write(NEW, place))) == 0
    whole_s = time.monotonic() - began
    last, seen, kills = NEW, {"old": 0, "new": 0}, 0
    while kills < KILLS:
        wanted = OLD if last is NEW else NEW
        child = in_child(partial(write, wanted, place))
        time.sleep(moment.uniform(0, whole_s * 1.3))
        os.kill(child, signal.SIGKILL)
        kills += ended(child) == -signal.SIGKILL
        if is_whole(place, wanted):
            seen["new"] += 1
            last = wanted
        else:
            assert is_whole(place, last)
            seen["old"] += 1
    assert min(seen.values()) > 0, seen
    write(OLD if last is NEW else NEW, place)
    assert beside(place) == []


def test_a_killed_command_leaves_the_old_bundle_or_the_new_one(tmp_path: Path) -> None:
    place = tmp_path / "out"
    profile = ROOT / "profiles" / "disagg-cpu.yaml"

    def command(size: int) -> list[str]:
        set_size = f"lmcache.chunk_size={size}"
        words = ["-m", "compiler", "build", str(profile), "-o", str(place), "--set", set_size]
        return [sys.executable, *words]

    began = time.monotonic()
    subprocess.run(command(128), check=True, cwd=ROOT, capture_output=True)
    whole_s = time.monotonic() - began
    trees = {128: tree(place)}
    subprocess.run(command(256), check=True, cwd=ROOT, capture_output=True)
    trees[256] = tree(place)
    assert trees[128] != trees[256]
    moment = random.Random(11)
    for number in range(4):
        child = subprocess.Popen(
            command((128, 256)[number % 2]), cwd=ROOT, stdout=subprocess.DEVNULL
        )
        time.sleep(whole_s * moment.uniform(0.5, 1.0))
        child.kill()
        child.wait()
        assert tree(place) in trees.values()


@pytest.mark.usefixtures("without_exchange")
def test_without_exchange_the_bundle_is_replaced_by_two_renames(place: Path) -> None:
    write(OLD, place)
    assert write(NEW, place)
    assert is_whole(place, NEW)
    assert beside(place) == []


def test_where_the_c_library_has_no_exchange_two_renames_do(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    write(OLD, place)
    assert write(NEW, place)
    assert is_whole(place, NEW)


def test_another_failure_of_the_exchange_leaves_the_old_bundle(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Libc:
        @staticmethod
        def renameat2(*_: Any) -> int:
            ctypes.set_errno(errno.EACCES)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc)
    write(OLD, place)
    with pytest.raises(NotWritten, match="Permission denied"):
        write(NEW, place)
    assert is_whole(place, OLD)
    assert beside(place) == []


@pytest.mark.usefixtures("without_exchange")
@pytest.mark.parametrize("renames", [1, 2])
def test_a_build_killed_between_its_renames_is_mended_by_the_next(
    place: Path, renames: int
) -> None:
    write(OLD, place)
    (place / "logs").mkdir()
    (place / "logs/worker.log").write_text("log")
    rename, done = os.rename, [0]

    def renamed_then_killed(source: Path, target: Path) -> None:
        rename(source, target)
        done[0] += 1
        if done[0] == renames:
            os.kill(os.getpid(), signal.SIGKILL)

    def build() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "rename", renamed_then_killed)
            write(NEW, place)

    assert ended(in_child(build)) == -signal.SIGKILL
    assert place.exists() == (renames == 2)
    write(NEW, place)
    assert is_whole(place, NEW)
    assert (place / "logs/worker.log").read_text() == "log"
    assert beside(place) == []


@pytest.mark.usefixtures("without_exchange")
def test_a_second_rename_that_fails_leaves_the_old_bundle(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(OLD, place)
    rename, done = os.rename, [0]

    def fails_once(source: Path, target: Path) -> None:
        done[0] += 1
        if done[0] == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails_once)
    with pytest.raises(NotWritten, match="nothing was changed"):
        write(NEW, place)
    assert is_whole(place, OLD)
    assert beside(place) == []


@pytest.mark.usefixtures("without_exchange")
def test_a_bundle_hand_edited_then_cut_off_between_renames_is_not_lost(place: Path) -> None:
    """The folder set aside comes back first, and is checked against its manifest like any other."""
    write(OLD, place)
    (place / "notes.txt").write_text("mine")
    os.rename(place, place.parent / ".agg.dync-abc123-old")
    with pytest.raises(NotWritten, match=r"notes\.txt"):
        write(NEW, place)
    assert (place / "notes.txt").read_text() == "mine"
