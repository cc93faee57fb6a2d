"""Bundles that somebody else made: nothing of them is believed, and nothing is changed by them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compiler import __version__, shipped_files
from compiler.cli.main import dync
from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.process import Kind, KvSource, Protocol, WithoutLmcache
from compiler.topology import CacheMode, Role, TopologyKind
from compiler.write import plan_forms
from compiler.write.bundle import write
from compiler.write.manifest import MANIFEST
from compiler.write.plan_reader import NotAPlan, plan_from_json
from tests.support import DISAGG, ROOT, plan_of

GOLDENS = ROOT / "tests/golden"
GOLDEN = ROOT / "tests/golden/tiers-multiprocess/expected/plan.json"
KEY = ROOT / "tests/golden/agg-key/expected/plan.json"
COMMANDS = (
    ("install", "BUNDLE", "--root", "IMAGE", "--create-user"),
    ("install", "BUNDLE", "--root", "IMAGE", "--overwrite", "--pass", "HF_HOME"),
    ("rollback", "BUNDLE", "--root", "IMAGE"),
    ("uninstall", "BUNDLE", "--root", "IMAGE", "--purge"),
    ("doctor", "BUNDLE", "--root", "IMAGE"),
    ("diff", "BUNDLE", "BUNDLE"),
    ("down", "BUNDLE"),
    ("up", "BUNDLE", "--plain"),
    ("status", "BUNDLE"),
    ("logs", "BUNDLE"),
    ("verify", "BUNDLE"),
)
EVIL = (
    "../../OUT",
    "/OUT",
    "a/../../OUT",
    "./OUT",
    "a//b",
    "",
    ".",
    "..",
    "a\nb",
    "a\0b",
    "logs/x",
)


def snapshot(folder: Path) -> dict[str, object]:
    """Return all that lies in a folder: what each file is, whose, and what it holds."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        what = os.readlink(path) if path.is_symlink() else ""
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mode, status.st_uid, what, content)
    return found


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Return a folder with an image, and a bundle beside it."""
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\ndync:x:999:999::/:/bin/sh\n")
    program = image / "opt/dync/stacks/vllm-0.32/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to("/usr/bin/python3")
    write(emit(plan_of(DISAGG), templates()), tmp_path / "bundle")
    return tmp_path


def run(world: Path, *words: str) -> Result:
    places = {"BUNDLE": str(world / "bundle"), "IMAGE": str(world / "image")}
    named = [places.get(word, word) for word in words]
    return CliRunner().invoke(dync, named, env={"HF_HOME": "/srv/hf", "HOME": str(world)})


def assert_refused(world: Path, *words: str) -> str:
    before = snapshot(world)
    done = run(world, *words)
    assert done.exit_code == 1, (words, done.output, done.exception)
    assert isinstance(done.exception, SystemExit), (words, done.exception)
    assert snapshot(world) == before, words
    return done.output


def signed(world: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the plan of a bundle, and its digest with it: only its names are wrong then."""
    data = json.loads((world / "bundle/plan.json").read_text())
    change(data)
    forged(world, "plan.json", json.dumps(data))


def forged(world: Path, path: str, text: str | None, **others: Any) -> None:
    """Change, add or remove a file of a bundle, and say so in its list of files."""
    file, manifest = world / "bundle" / path, world / "bundle" / MANIFEST
    listed = json.loads(manifest.read_text())
    if text is None:
        file.unlink()
        del listed["files"][path]
    else:
        file.write_text(text)
        listed["files"][path] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps({**listed, **others}))


@pytest.mark.parametrize("name", EVIL)
def test_a_name_in_the_manifest_leads_nowhere(world: Path, name: str) -> None:
    manifest = world / "bundle" / MANIFEST
    listed = json.loads(manifest.read_text())
    (world / "OUT").write_text("mine")
    listed["files"][name] = hashlib.sha256(b"mine").hexdigest()
    manifest.write_text(json.dumps(listed))
    for option in ((), ("--overwrite",)):
        said = assert_refused(world, "install", "BUNDLE", "--root", "IMAGE", *option)
        assert MANIFEST in said


@pytest.mark.parametrize("name", [name for name in EVIL if name != "logs/x"])
def test_a_name_in_the_plan_leads_nowhere(world: Path, name: str) -> None:
    signed(world, lambda data: data.update(name=name))
    for words in COMMANDS:
        said = assert_refused(world, *words)
        assert "is no plan that dync wrote" in said
        assert "make it again with dync build" in said


def test_a_swapped_file_is_neither_followed_nor_believed(world: Path) -> None:
    """What is hashed is what is written: a link to a closed file is no file of the bundle."""
    secret = world / "secret"
    secret.write_text("hush")
    secret.chmod(0o600)
    for path in ("engine/decode-0.yaml", "plan.json", MANIFEST, "lib"):
        kept = world / "kept"
        (world / "bundle" / path).rename(kept)
        (world / "bundle" / path).symlink_to(secret)
        for option in ((), ("--overwrite",)):
            assert_refused(world, "install", "BUNDLE", "--root", "IMAGE", *option)
        said = assert_refused(world, "diff", "BUNDLE", "BUNDLE")
        assert "hush" not in said
        (world / "bundle" / path).unlink()
        kept.rename(world / "bundle" / path)
    assert run(world, "install", "BUNDLE", "--root", "IMAGE").exit_code == 0


@pytest.mark.parametrize("path", ["plan.json", MANIFEST, "lib/dync.sh"])
def test_a_pipe_is_not_waited_for(world: Path, path: str) -> None:
    (world / "bundle" / path).unlink()
    os.mkfifo(world / "bundle" / path)
    assert_refused(world, "install", "BUNDLE", "--root", "IMAGE")
    assert_refused(world, "diff", "BUNDLE", "BUNDLE")


def test_an_images_links_stay_in_it(world: Path) -> None:
    image, outside = world / "image", world / "outside"
    (outside / "etc").mkdir(parents=True)
    (image / "usr/local/lib").mkdir(parents=True)
    (image / "usr/local/lib/systemd").symlink_to(outside)
    (image / "etc/dync").symlink_to(f"../../../../../../../..{outside}/etc")
    before = snapshot(outside)
    done = run(world, "install", "BUNDLE", "--root", "IMAGE", "--pass", "HF_HOME")
    assert done.exit_code == 0, done.output
    assert snapshot(outside) == before
    within = image / str(outside).lstrip("/")
    assert (within / "etc/pair/environment").is_file()
    assert (within / "system/dync-pair.target").is_file()
    assert run(world, "uninstall", "BUNDLE", "--root", "IMAGE", "--purge").exit_code == 0
    assert snapshot(outside) == before


def test_nothing_is_written_for_what_is_refused(world: Path) -> None:
    """Neither the account nor the variables of the caller's shell."""
    (world / "image/etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    shutil.rmtree(world / "image/opt")
    words = ("install", "BUNDLE", "--root", "IMAGE", "--create-user", "--pass", "HF_HOME")
    assert "there is no stack" in assert_refused(world, *words)


UNIT = "systemd/dync-pair-router.service"
AS_ROOT = "User=root\nExecStartPre=+/bin/sh -c id\n"


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (UNIT, "User=dync\n", AS_ROOT),
        (UNIT, None, None),
        ("systemd/dync-pair-gpus.service", "Type=oneshot\n", "Type=oneshot\nExecStart=/bin/id\n"),
        ("systemd/dync-pair.target", "[Unit]\n", "[Unit]\nOnFailure=debug-shell.service\n"),
        ("systemd/user/dync-pair-router.service", "[Service]\n", "[Service]\nExecStartPre=id\n"),
        ("systemd/dync-pair-more.service", None, "[Service]\nExecStart=/bin/id\n"),
        ("bin/router.sh", "set ", "id\nset "),
        ("launch.sh", "set ", "id\nset "),
        ("lib/service.sh", "service_gpus()", "id\nservice_gpus()"),
        ("lib/more.py", None, "print(1)\n"),
        ("engine/decode-0.yaml", "port", "trust-remote-code: true\nport"),
        ("README.md", "# ", "# Not "),
        ("plan.json", "{\n", "{ \n"),
    ],
)
def test_a_bundle_that_is_not_made_of_its_plan_is_refused(
    world: Path, path: str, old: str | None, new: str | None
) -> None:
    """Its list of files says the same as the files: whoever edits one edits the other."""
    file = world / "bundle" / path
    text = file.read_text() if file.exists() else ""
    assert old is None or old in text
    changed = None if new is None else text.replace(old, new, 1) if old else new
    forged(world, path, changed)
    said = assert_refused(world, "install", "BUNDLE", "--root", "IMAGE")
    assert f"what this dync does not make of its plan.json ({path})" in said
    assert "make it again with dync build" in said
    assert "--overwrite" not in said
    done = run(world, "install", "BUNDLE", "--root", "IMAGE", "--overwrite")
    assert done.exit_code == 0, done.output
    assert_made_of_its_plan(world)


def assert_made_of_its_plan(world: Path) -> None:
    """Nothing but what dync makes of the plan lies in the generation, byte for byte."""
    folder = world / "image/etc/dync/pair/generations/1"
    wanted = {item.path: item for item in emit(plan_of(DISAGG), templates())}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == {*wanted, MANIFEST}
    for path, item in wanted.items():
        assert (folder / path).read_text() == item.text
        assert bool((folder / path).stat().st_mode & 0o111) == item.executable


def test_a_bundle_of_another_dync_is_to_be_made_again(world: Path) -> None:
    text = (world / "bundle" / UNIT).read_text()
    forged(world, UNIT, text + "# as it was\n", dync="0.0.9")
    said = assert_refused(world, "install", "BUNDLE", "--root", "IMAGE")
    assert f"was made by dync 0.0.9, and this is dync {__version__}" in said
    assert UNIT in said
    assert "make it again with dync build" in said
    forged(world, UNIT, text, dync="0.0.9")
    assert run(world, "install", "BUNDLE", "--root", "IMAGE").exit_code == 0, "the same files"


def test_a_bundle_that_does_not_say_who_made_it_is_read(world: Path) -> None:
    manifest = world / "bundle" / MANIFEST
    listed = json.loads(manifest.read_text())
    del listed["dync"]
    manifest.write_text(json.dumps(listed))
    forged(world, UNIT, "[Service]\n")
    said = assert_refused(world, "install", "BUNDLE", "--root", "IMAGE")
    assert "was made by another version of dync" in said


@pytest.mark.parametrize("version", [1, None, "", "a b", "\x1b[2J", "9" * 200])
def test_an_odd_version_is_none_that_dync_wrote(world: Path, version: Any) -> None:
    text = (world / "bundle" / UNIT).read_text()
    forged(world, UNIT, text, dync=version)
    assert "is no version" in assert_refused(world, "install", "BUNDLE", "--root", "IMAGE")


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDENS.iterdir()))
def test_a_bundle_is_made_of_its_plan_alone(case: str) -> None:
    expected = GOLDENS / case / "expected"
    plan = plan_from_json((expected / "plan.json").read_bytes())
    there = {path for path in expected.rglob("*") if path.is_file()}
    made = {expected / item.path: item.text for item in emit(plan, templates())}
    assert made.keys() == there
    assert [path for path, text in made.items() if path.read_text("utf-8") != text] == []


@pytest.mark.parametrize("words", [("rollback", "pair"), ("rollback", "pair", "--to", "1")])
def test_an_edited_generation_is_not_gone_back_to(world: Path, words: tuple[str, ...]) -> None:
    assert run(world, "install", "BUNDLE", "--root", "IMAGE").exit_code == 0
    write(emit(plan_of(DISAGG, "deploy.drain_s=31"), templates()), world / "bundle")
    assert run(world, "install", "BUNDLE", "--root", "IMAGE").exit_code == 0
    unit = world / "image/etc/dync/pair/generations/1" / UNIT
    unit.write_text(unit.read_text() + "# mine\n")
    assert UNIT in assert_refused(world, *words, "--root", "IMAGE")
    assert run(world, *words, "--root", "IMAGE", "--overwrite").exit_code == 0


def test_a_generation_of_another_dync_is_gone_back_to(world: Path) -> None:
    """Only root writes there: it is not held against what this dync would make of its plan."""
    text = (world / "bundle" / UNIT).read_text() + "# as it was\n"
    assert run(world, "install", "BUNDLE", "--root", "IMAGE").exit_code == 0
    first = world / "image/etc/dync/pair/generations/1"
    (first / UNIT).write_text(text)
    manifest = first / MANIFEST
    listed = json.loads(manifest.read_text())
    listed["files"][UNIT] = hashlib.sha256(text.encode()).hexdigest()
    manifest.write_text(json.dumps({"format": 1, "files": listed["files"]}))
    write(emit(plan_of(DISAGG, "deploy.drain_s=31"), templates()), world / "bundle")
    assert run(world, "install", "BUNDLE", "--root", "IMAGE").exit_code == 0
    done = run(world, "rollback", "pair", "--root", "IMAGE")
    assert done.exit_code == 0, done.output
    assert (world / "image/usr/local/lib/systemd/system").is_dir()
    assert os.readlink(world / "image/etc/dync/pair/current") == "generations/1"
    assert (first / UNIT).read_text() == text


@pytest.mark.parametrize("who", ["owner", "mode"])
@pytest.mark.parametrize(
    "place",
    [
        "image/opt/dync/stacks/vllm-0.32/bin",
        "image/opt/dync/stacks/vllm-0.32/bin/nvidia-smi",
        "image/opt",
        "bundle",
        "bundle/lib/service.sh",
    ],
)
def test_what_others_can_change_is_refused(world: Path, place: str, who: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    path = world / place
    if not path.exists():
        path.write_text("#!/bin/sh\n")
    if who == "owner":
        os.chown(path, 12345, 12345)
    else:
        path.chmod(path.stat().st_mode | 0o020)
    said = assert_refused(world, "install", "BUNDLE", "--root", "IMAGE")
    assert f"others than root can change {path} (owner " in said
    assert "root:root" in said
    looked = run(world, "doctor", "BUNDLE", "--root", "IMAGE", "--format", "json")
    failures = [item for item in json.loads(looked.output)["findings"] if item["verdict"] == "fail"]
    assert [item["subject"] for item in failures] == [str(path)]


def test_a_leftover_of_another_account_does_not_become_the_bundle(world: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    plan = plan_of(DISAGG)
    left = world / ".fresh.dync-x-old"
    write(emit(plan, templates()), left)
    (left / "mine").write_text("theirs")
    for path in (left, *left.rglob("*")):
        os.chown(path, 12345, 12345)
    write(emit(plan, templates()), world / "fresh")
    assert not (world / "fresh/mine").exists()
    assert (world / "fresh").stat().st_uid == os.geteuid()
    assert left.is_dir()


# ---- plans


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = put(value[path[0]], path[1:], new)
    return value


def without(value: Any, path: tuple[Any, ...]) -> Any:
    value = copy.deepcopy(value)
    place = value
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return value


PLANS = [json.loads(file.read_text("utf-8")) for file in (GOLDEN, KEY)]
PLACES = [list(paths(plan)) for plan in PLANS]
FREE = {
    *("argv", "env", "engine_args", "kv_transfer_config", "lmcache_config", "overrides", "secrets"),
    "switch_argv",
}
TRAPS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**18, 2**70, -(2**70), float("nan"), float("inf"), 1e300),
    *("", "x", "..", "../../OUT", "/", "/OUT", "a\nb", "\x1b[31m", "é\u202e", "a" * 5000, "%n"),
    *(
        [],
        [[]],
        [None],
        ["x"],
        {},
        {"x": 1},
        {"": {}},
        {"name": "x"},
        "root",
        "/etc",
        "\ud800",
        "\0",
    ),
)
WORDS = [
    [member.value for member in kind]
    for kind in (Kind, Role, WithoutLmcache, Protocol, KvSource, CacheMode, TopologyKind)
]
quiet = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("number", range(len(PLANS)))
def test_a_key_too_few_or_too_many_is_said(number: int) -> None:
    plan = PLANS[number]
    for path in PLACES[number]:
        if path and isinstance(path[-1], str) and not set(path[:-1]) & FREE:
            with pytest.raises(NotAPlan, match=path[-1]):
                plan_from_json(json.dumps(without(plan, path)))
            more = put(plan, (*path[:-1],), {**_at(plan, path[:-1]), "more": 1})
            with pytest.raises(NotAPlan, match="more"):
                plan_from_json(json.dumps(more))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested deeper"),
        ('{"format": 1, "format": 1}', '"format" is there twice'),
        ('{"format": NaN}', "NaN is no number"),
        ('{"format": 1e999}', "is no number"),
        ('{"format": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"format": true}', "plan format true is not 1"),
        ('{"format": "\\ud800"}', "half a character"),
        ('{"format": "\\u0000"}', "NUL"),
        ("\ud800", "no UTF-8"),
        ("", "no JSON"),
        ("null", "expected a mapping"),
    ],
)
def test_what_is_no_plan_is_said_in_a_line(text: str, says: str) -> None:
    with pytest.raises(NotAPlan, match=says) as raised:
        plan_from_json(text)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("processes",), [], "processes: [], expected a list that is not empty"),
        (("processes", 0, "argv"), [], "processes.0.argv: [], expected a list that is not empty"),
        (("processes", 0, "argv", 0), "bin/x", 'processes.0.argv.0: "bin/x", expected an absolute'),
        (("model",), None, "model: null, expected text that is not empty"),
        (("user",), "root", 'user: "root", expected the name of an account other than root'),
        (("processes", 0, "listens", 0, "port"), 0, "expected a whole number from 1 to 65535"),
        (("processes", 0, "ready", "host"), "a b", "processes.0.ready.host: "),
        (("registrations",), "../x", "registrations: "),
        (("processes", 1, "secrets"), {"A": "relative"}, "processes.1.secrets.A: "),
        (("processes", 1, "after"), ["nobody"], 'processes.1.after: "nobody" is no process before'),
        (("source", "files"), [], "source.files: [], expected a list that is not empty"),
        (("processes", 0, "listens"), [], "processes.0.listens: [], expected a list that is not"),
        (
            ("processes", 4, "engine_args"),
            {},
            "processes.4.engine_args.max_request_mb: null, expec",
        ),
        (
            ("processes", 4, "engine_args", "drain_s"),
            True,
            "drain_s: true, expected a whole number",
        ),
        (("processes", 4, "listens"), PLANS[1]["processes"][4]["listens"][:1], "expected 2 of a"),
        (
            ("processes", 4, "tiers"),
            PLANS[0]["processes"][1]["tiers"],
            "processes.4.tiers: expected",
        ),
    ],
)
def test_a_plan_says_where_it_is_wrong(path: tuple[Any, ...], value: Any, says: str) -> None:
    with pytest.raises(NotAPlan) as raised:
        plan_from_json(json.dumps(put(PLANS[1], path, value)))
    assert str(raised.value).startswith(says) or says in str(raised.value)


@pytest.mark.parametrize(
    "folder",
    [
        *("/usr/lib/python3.12", "/etc", "//etc", "/srv/../etc/systemd/system/x.service.d", "/"),
        *("/root/.ssh", "/usr/bin/", "/./boot", "/var", "/var/spool/cron/crontabs", "/run/x"),
        *("/home", "/tmp", "/var/lib/dync", "/opt/dync/stacks/vllm-0.32/lib", "/opt/dync/stacks"),
    ],
)
def test_a_plan_gives_no_folder_of_the_system_away(folder: str) -> None:
    [number, *_] = (n for n, process in enumerate(PLANS[0]["processes"]) if process["tiers"])
    path = ("processes", number, "tiers", 0, "folder")
    with pytest.raises(NotAPlan, match=r"is the system's|is among the stacks"):
        plan_from_json(json.dumps(put(PLANS[0], path, folder)))
    plan_from_json(json.dumps(put(PLANS[0], path, "/srv/kv")))


def is_read(data: Any) -> bool:
    """Return whether a plan is read and not refused; what is read is emitted, and says the same."""
    try:
        plan = plan_from_json(json.dumps(data))
    except NotAPlan:
        return False
    assert plan_from_json(plan.to_json()) == plan
    emit(plan, templates())
    return True


@pytest.mark.parametrize("seed", range(6))
def test_any_plan_is_read_or_refused(seed: int) -> None:
    """The traps are drawn here: Hypothesis draws others where other modules are imported."""
    draw = random.Random(seed)
    read = []
    for _ in range(100):
        number = draw.randrange(len(PLANS))
        path, trap = draw.choice(PLACES[number]), draw.choice(TRAPS)
        read.append(is_read(put(PLANS[number], path, trap)))
    assert set(read) == {True, False}


def rearranged(value: Any, path: tuple[Any, ...]) -> Iterator[Any]:
    """Return what else could stand at a place of a plan that is right by its types."""
    there = _at(value, path)
    if isinstance(there, list):
        yield from ([], there[::-1], there + there[-1:])
        yield from (there[:at] + there[at + 1 :] for at in range(len(there)))
    if isinstance(there, dict):
        yield {}
        yield from ({key: there[key] for key in there if key != gone} for gone in there)
    if isinstance(there, str):
        words = next((words for words in WORDS if there in words), ())
        yield from (word for word in words if word != there)
        if path[-1] in ("purpose", "kind", "host"):
            yield "other"


@pytest.mark.parametrize("number", range(len(PLANS)))
def test_a_plan_of_other_parts_is_read_or_refused(number: int) -> None:
    """Lists with an item more or less, mappings without a key, another kind of a process."""
    plan = PLANS[number]
    places = [path for path in PLACES[number] if path and not set(path[:-1]) & FREE]
    first = {tuple(step for step in path[2:] if isinstance(step, str)): path for path in places}
    kinds = [path for path in places if path[-1] in ("kind", "after", "listens", "tiers")]
    read = [
        is_read(put(plan, path, other))
        for path in dict.fromkeys((*first.values(), *kinds))
        for other in rearranged(plan, path)
    ]
    assert set(read) == {True, False}


@given(at=st.integers(0, 10**6), trap=st.sampled_from(TRAPS), command=st.sampled_from(COMMANDS[:7]))
@example(at=0, trap=None, command=COMMANDS[0])
@settings(quiet, max_examples=40)
def test_no_command_ends_with_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, at: int, trap: Any, command: tuple[str, ...]
) -> None:
    world = tmp_path_factory.mktemp("world")
    (world / "image/etc").mkdir(parents=True)
    plan = json.loads((ROOT / "tests/golden/agg/expected/plan.json").read_text())
    shutil.copytree(ROOT / "tests/golden/agg/expected", world / "bundle")
    places = list(paths(plan))
    (world / "bundle/plan.json").write_text(json.dumps(put(plan, places[at % len(places)], trap)))
    before = snapshot(world)
    done = run(world, *command)
    assert isinstance(done.exception, (SystemExit, type(None))), (command, done.exception)
    assert snapshot(world) == before
    shutil.rmtree(world)


def test_forms_are_those_of_the_profile() -> None:
    """A name that `dync check` lets pass is one that is read back, and no other."""
    schema = shipped_files.profile_schema()["properties"]
    deploy, worker = schema["deploy"]["properties"], schema["workers"]["items"]["properties"]
    assert schema["name"]["pattern"] == plan_forms.NAME.pattern
    assert deploy["user"]["pattern"] == plan_forms.ACCOUNT.pattern
    assert worker["env"]["propertyNames"]["pattern"] == plan_forms.VARIABLE.pattern
    key = schema["frontend"]["properties"]["api_key_file"]
    assert key["pattern"] == plan_forms.FILE.pattern
    patterns = shipped_files.data_text("profile.schema.json").count
    assert patterns(json.dumps(plan_forms.FOLDER.pattern)) > 5


@pytest.mark.parametrize("table", ["FORMS", "KEYS", "NOT_EMPTY", "PORTS"])
def test_tables_name_fields_that_are_there(table: str) -> None:
    for kind, name in getattr(plan_forms, table):
        assert name in kind.__dataclass_fields__
