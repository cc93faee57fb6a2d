"""A pack of two small stacks, made and installed as on a machine that has a torch of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.packing import streams
from benchmarks.gpu.packing.own_torch import Rules
from benchmarks.gpu.packing.pack import Folders, pack_installed
from benchmarks.gpu.packing.shared import BLOCK
from tests.packing.elf import CUBIN, container, entry, with_device_code, write

PART = 3000
NOISE = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(200))
TORCH = """
__version__ = "2.13"
class version: cuda = "13.0"
class cuda: is_available = staticmethod(lambda: False)
"""
LISTS = {
    "machine.txt": "numpy==2.5.2\ntorch==2.11\n",
    "own.txt": "# why\ntorch\n",
    "left-out.txt": "flash*\n",
    "left-out-files.txt": "*.a\n../*\n*/tests/*\n",
    "cut.txt": "engine/kernels.so no-ptx\n",
    "imported-one.txt": "engine\n",
    "imported-two.txt": "engine\ndynamo.main\n",
}
CUDA = with_device_code(
    container(entry(CUBIN, 75, b"old" * 9), entry(CUBIN, 90, b"new" * 30)), between=NOISE
)
KERNELS = with_device_code(container(entry(CUBIN, 80, b"old" * 90), entry(CUBIN, 90, NOISE[:400])))
LARGE = with_device_code(container(entry(CUBIN, 90, NOISE * 12)))  # a name in one of its blocks
RENAMED = LARGE.replace(NOISE, NOISE[:-4] + b"name", 1)
ENGINE = {
    "engine/__init__.py": b"__version__ = '1'\nimport torch, numpy\n",
    "engine/data.bin": NOISE,
    "engine/kernels.so": KERNELS,
    "engine/large.so": LARGE,
    "engine/tests/test_it.py": b"left out",
    "engine/lib.a": b"left out",
}


def distribution(
    site: Path, name: str, files: Mapping[str, bytes], requires: str = "", commands: str = ""
) -> None:
    """Install one, as pip leaves it."""
    info = f"{name}-1.dist-info"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{requires}",
        f"{info}/entry_points.txt": f"[console_scripts]\n{commands}",
    }
    everything = {**files, **{file: text.encode() for file, text in texts.items()}}
    for file, data in everything.items():
        write(site / file, data)
    names = [*everything, f"{info}/RECORD", f"../../../bin/{name}", f"{name}/gone.py"]
    write(site / info / "RECORD", "".join(f"{file},,\n" for file in names).encode())


def install_stack(prefix: Path, stack: str, engine: Mapping[str, bytes]) -> Path:
    site = prefix / "stacks" / stack / "lib/python3.12/site-packages"
    torch = {"torch/__init__.py": TORCH.encode(), "torch/lib/libtorch_cuda.so": CUDA}
    distribution(site, "torch", torch)
    wants = (
        "Requires-Dist: numpy<2\nRequires-Dist: flash-attn\nRequires-Dist: missing; extra == 'x'\n"
    )
    distribution(site, "engine", engine, wants + "Requires-Dist: nowhere>=3\n")
    distribution(site, "numpy", {"numpy/__init__.py": b"of the stack"})
    distribution(site, "flash_attn", {"flash_attn/__init__.py": b""})
    return site


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack, what it was made of, and the Python of a machine to install it on."""

    folders: Folders
    python: Path
    machine: Path

    def install(self, parts: Path, prefix: Path, *stacks: str) -> subprocess.CompletedProcess[str]:
        named = [word for stack in stacks for word in ("--stack", stack)]
        command = [str(self.python), f"{parts}/install_parts.py", str(parts), str(prefix), *named]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.folders.parts, to)
        return to

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folders.parts / "MANIFEST.json").read_text())
        return found


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    here = tmp_path_factory.mktemp("pack")
    for name, text in LISTS.items():
        write(here / "rules" / name, text.encode())
    install_stack(here / "opt", "one", ENGINE)
    init = ENGINE["engine/__init__.py"].replace(b"1", b"2")
    changed = {**ENGINE, "engine/__init__.py": init, "engine/large.so": RENAMED}
    second = install_stack(here / "opt", "two", changed)
    dynamo = {"dynamo/main.py": b"def main(): print('served')\n", "dynamo/lib.bin": NOISE[::-1]}
    distribution(second, "ai_dynamo", dynamo, commands="dynamo-run = dynamo.main:main [all]\n")
    machine = here / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", machine], check=True)
    [site] = (machine / "lib").glob("python3*/site-packages")
    write(site / "torch/__init__.py", b"raise SystemExit('the wrong torch')\n")
    write(site / "numpy/__init__.py", b"")
    write(site / "nvidia/cublas/lib/libcublas.so", b"cublas")
    write(site / "triton/backends/nvidia/bin/ptxas", b"assembler")
    folders = Folders(
        prefix=here / "opt", work=here / "work", parts=here / "parts", rules=here / "rules"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "ALONE", len(CUDA))
        patch.setattr(streams, "TOGETHER", 1)
        pack_installed(["one", "two"], folders, PART)
    return Pack(folders, machine / "bin/python", site)


def trees_of(prefix: Path, stack: str) -> dict[str, bytes]:
    engines = prefix / "stacks" / stack / "engines"
    return {
        str(path.relative_to(engines)): path.read_bytes()
        for path in engines.rglob("*")
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }


def test_what_was_packed_arrives_and_runs(pack: Pack, tmp_path: Path) -> None:
    done = pack.install(pack.folders.parts, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK one two" in done.stdout
    for stack in ("one", "two"):
        arrived = trees_of(tmp_path, stack)
        source = pack.folders.prefix / "stacks" / stack / "lib/python3.12/site-packages"
        cut = {"engine/kernels.so", "engine/large.so", "torch/lib/libtorch_cuda.so"}
        assert cut < arrived.keys()
        assert {name for name in arrived if name.startswith(("numpy", "flash"))} == set()
        assert {name for name in arrived if name.endswith((".a", "test_it.py"))} == set()
        for name, data in arrived.items():
            is_same = data == (source / name).read_bytes()
            assert is_same == (name not in cut), name
        assert len(arrived["engine/kernels.so"]) == len(KERNELS)
        assert b"old" * 90 not in arrived["engine/kernels.so"]
        assert NOISE[:400] in arrived["engine/kernels.so"]
    python = tmp_path / "stacks/two/bin/python"
    asked = "import engine, numpy, torch; print(engine.__version__, torch.__version__)"
    assert subprocess.check_output([python, "-c", asked], text=True) == "2 2.13\n"
    command = tmp_path / "stacks/two/bin/dynamo-run"
    assert subprocess.check_output([command], text=True) == "served\n"


def test_files_of_both_stacks_travel_once_and_are_one_file(pack: Pack, tmp_path: Path) -> None:
    assert pack.install(pack.folders.parts, tmp_path).returncode == 0
    one, two = (tmp_path / "stacks" / stack / "engines" for stack in ("one", "two"))
    for name in ("engine/data.bin", "engine/kernels.so", "torch/lib/libtorch_cuda.so"):
        assert (one / name).samefile(two / name)
        assert not (pack.folders.work / "sites/two" / name).exists()
    assert not (one / "engine/__init__.py").samefile(two / "engine/__init__.py")


def test_of_a_library_that_differs_in_few_blocks_only_those_travel(
    pack: Pack, tmp_path: Path
) -> None:
    assert pack.install(pack.folders.parts, tmp_path).returncode == 0
    for stack in ("one", "two"):
        arrived = tmp_path / "stacks" / stack / "engines/engine/large.so"
        assert (
            arrived.read_bytes()
            == (pack.folders.work / "sites" / stack / "engine/large.so").read_bytes()
        )
        assert (b"name" in arrived.read_bytes()) == (stack == "two")
    [shared] = [one for one in pack.manifest()["streams"] if one["kind"] == "shared"]
    assert BLOCK < shared["unpacked"] < BLOCK * 2 < len(LARGE)


def test_cuda_and_the_assembler_are_the_machines(pack: Pack, tmp_path: Path) -> None:
    assert pack.install(pack.folders.parts, tmp_path, "one").returncode == 0
    for name in ("nvidia/cublas/lib/libcublas.so", "triton/backends/nvidia/bin/ptxas"):
        assert (tmp_path / "stacks/one/engines" / name).samefile(pack.machine / name)


def test_the_first_parts_are_the_first_stack(pack: Pack, tmp_path: Path) -> None:
    manifest = pack.manifest()
    ends = [one["start"] + one["size"] for one in manifest["streams"] if one["stack"] == "one"]
    count = -(-max(ends) // PART)
    assert 1 < count < len(manifest["parts"])
    parts = pack.copy(tmp_path / "parts")
    for part in manifest["parts"][count:]:
        (parts / part["name"]).unlink()
    done = pack.install(parts, tmp_path / "opt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK one under" in done.stdout
    assert sorted(path.name for path in (tmp_path / "opt/stacks").iterdir()) == ["one"]
    refused = pack.install(parts, tmp_path / "opt", "two")
    assert refused.returncode != 0
    missing = ", ".join(part["name"] for part in manifest["parts"][count:])
    assert f"one two needs {missing}, missing in" in refused.stderr


@pytest.mark.parametrize("number", [0, -1])
def test_a_damaged_part_is_refused_by_name(pack: Pack, tmp_path: Path, number: int) -> None:
    parts = pack.copy(tmp_path / "parts")
    part = sorted(parts.glob("part.*"))[number]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    done = pack.install(parts, tmp_path / "opt")
    assert done.returncode != 0
    assert f"damaged in {parts}: {part.name}\n" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_a_missing_first_part_is_refused_by_name(pack: Pack, tmp_path: Path) -> None:
    parts = pack.copy(tmp_path / "parts")
    (parts / "part.00").unlink()
    done = pack.install(parts, tmp_path / "opt")
    assert done.returncode != 0
    assert "one needs part.00, missing in" in done.stderr


def test_a_stream_that_is_not_what_was_packed_is_refused(pack: Pack, tmp_path: Path) -> None:
    parts = pack.copy(tmp_path / "parts")
    manifest = pack.manifest()
    manifest["streams"][0]["sha256"] = "0" * 64
    (parts / "MANIFEST.json").write_text(json.dumps(manifest))
    done = pack.install(parts, tmp_path / "opt")
    assert done.returncode != 0
    name = manifest["streams"][0]["name"]
    assert f"not what was packed: one {name}" in done.stderr


def test_what_does_not_import_fails_the_installation(pack: Pack, tmp_path: Path) -> None:
    parts = pack.copy(tmp_path / "parts")
    manifest = pack.manifest()
    manifest["stacks"]["two"]["imported"].append("dynamo.nothing")
    (parts / "MANIFEST.json").write_text(json.dumps(manifest))
    done = pack.install(parts, tmp_path / "opt")
    assert done.returncode != 0
    assert "does not import: two" in done.stderr
    assert "No module named 'dynamo.nothing'" in done.stdout


def test_a_stack_that_the_pack_has_not_is_refused(pack: Pack, tmp_path: Path) -> None:
    done = pack.install(pack.folders.parts, tmp_path / "opt", "three")
    assert done.returncode != 0
    assert "not in this pack: three; it has one, two" in done.stderr


def test_packing_again_gives_the_same_pack_and_says_what_is_missing(
    pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = pack.folders
    again = Folders(
        prefix=given.prefix, work=tmp_path / "work", parts=tmp_path / "parts", rules=given.rules
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "ALONE", len(CUDA))
        patch.setattr(streams, "TOGETHER", 1)
        made = pack_installed(["one", "two"], again, PART)
    assert [path.name for path in made] == sorted(path.name for path in given.parts.iterdir())
    for path in made:
        assert path.read_bytes() == (given.parts / path.name).read_bytes()
        assert not path.name.startswith("part.") or path.stat().st_size <= PART
    said = capsys.readouterr().out
    assert "one: engine 1 asks for numpy<2; there is 2.5.2\n" in said
    assert "one: engine 1 asks for flash-attn, which is left out\n" in said
    assert "one: engine 1 asks for nowhere>=3, which NOBODY HAS\n" in said
    assert "asks for missing" not in said


def test_the_rules_that_are_here_can_be_read() -> None:
    rules = Rules.read()
    assert rules.stays("flashinfer-python")
    assert rules.stays("transformers")
    assert not rules.stays("torch")
    assert not rules.stays("vllm")
    assert rules.cuts["torch/lib/libtorch_cuda.so"].kernels
    assert rules.cuts["vllm/_C_stable_libtorch.abi3.so"].ptx


def test_a_cut_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    for name, text in {**LISTS, "cut.txt": "engine/kernels.so no-pxt\n"}.items():
        write(tmp_path / name, text.encode())
    with pytest.raises(ValueError, match=r"engine/kernels\.so: unknown no-pxt"):
        Rules.read(tmp_path)
