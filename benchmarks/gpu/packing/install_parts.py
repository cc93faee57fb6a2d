"""Make packed stacks' environments: python3 install_parts.py PARTS PREFIX [--stack STACK]...

Runs on the GPU machine, with the Python that has a torch of its own, and needs nothing but the
standard library. Without --stack it installs every stack whose parts are all there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

BEGAN = time.time()
CHUNK = 4 << 20
BLOCK = 4096  # shared.py's
PTXAS = "triton/backends/nvidia/bin/ptxas"


class Joined:
    """The bytes from start on, size of them, of all parts laid end to end."""

    def __init__(self, parts: list[tuple[Path, int]], start: int, size: int) -> None:
        self.parts, self.at, self.left = parts, start, size

    def read(self, size: int) -> bytes:
        """Return at most size bytes; none at the end."""
        at = self.at
        for path, length in self.parts:
            if at < length:
                with path.open("rb") as file:
                    file.seek(at)
                    data = file.read(min(size, self.left, length - at))
                self.at += len(data)
                self.left -= len(data)
                return data
            at -= length
        return b""


class Unpacked:
    """What a compressed stream holds, summed as it is read."""

    def __init__(self, source: Joined) -> None:
        self.source, self.packer, self.hash = source, lzma.LZMADecompressor(), hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return size bytes, fewer at the end."""
        found = bytearray()
        while len(found) < size and not self.packer.eof:
            data = self.source.read(1 << 20) if self.packer.needs_input else b""
            if self.packer.needs_input and not data:
                raise EOFError("the stream ends early")
            found += self.packer.decompress(data, size - len(found))
        self.hash.update(found)
        return bytes(found)


def main() -> None:
    """Check the parts, unpack the streams side by side, make the environments, try them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", type=Path)
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--stack", action="append")
    arguments = parser.parse_args()
    manifest = json.loads((arguments.parts / "MANIFEST.json").read_text())
    stacks = with_owners(manifest, arguments.stack or complete(manifest, arguments.parts))
    with multiprocessing.Pool() as pool:
        check_parts(pool, manifest, stacks, arguments.parts)
        unpack_all(pool, manifest, stacks, arguments)
        tries = []
        for stack in stacks:
            home = arguments.prefix.resolve() / "stacks" / stack
            take_shared(manifest, stack, home)
            python = make_environment(home, manifest["stacks"][stack]["commands"])
            say(f"{stack}: {python}")
            tries.append(
                (stack, [str(python), "-I", "-c", TRY, *manifest["stacks"][stack]["imported"]])
            )
        broken = [stack for stack, is_good in pool.imap_unordered(imports, tries) if not is_good]
    if broken:
        fail(f"what is installed does not import: {', '.join(broken)}")
    say(f"OK {' '.join(stacks)} under {arguments.prefix}")


def say(text: str) -> None:
    """Print it with the seconds since the start."""
    print(f"{time.time() - BEGAN:5.1f} s  {text}", flush=True)


def fail(text: str) -> None:
    """End, saying why."""
    sys.exit(f"FAILED: {text}")


def streams_of(manifest: dict[str, Any], stacks: list[str]) -> list[dict[str, Any]]:
    """Return the streams of these stacks."""
    return [stream for stream in manifest["streams"] if stream["stack"] in stacks]


def with_owners(manifest: dict[str, Any], named: list[str]) -> list[str]:
    """Return the stacks and those whose files they share, which come first."""
    unknown = [stack for stack in named if stack not in manifest["stacks"]]
    if unknown:
        fail(f"not in this pack: {', '.join(unknown)}; it has {', '.join(manifest['stacks'])}")
    wanted = set(named)
    for stream in streams_of(manifest, named):
        wanted |= {stream["owner"]} - {""}
    return [stack for stack in manifest["stacks"] if stack in wanted]


def needed_parts(manifest: dict[str, Any], stacks: list[str]) -> list[dict[str, Any]]:
    """Return the parts that hold any byte of these stacks."""
    wanted = streams_of(manifest, stacks)
    found, start = [], 0
    for part in manifest["parts"]:
        end = start + part["size"]
        if any(one["start"] < end and one["start"] + one["size"] > start for one in wanted):
            found.append(part)
        start = end
    return found


def complete(manifest: dict[str, Any], parts: Path) -> list[str]:
    """Return the stacks that are all there; without any, the first."""
    found = []
    for stack in manifest["stacks"]:
        needed = needed_parts(manifest, with_owners(manifest, [stack]))
        if all((parts / part["name"]).exists() for part in needed):
            found.append(stack)
    return found or list(manifest["stacks"])[:1]


def check_parts(pool: Any, manifest: dict[str, Any], stacks: list[str], parts: Path) -> None:
    """Refuse a part that is missing or not what was packed."""
    needed = needed_parts(manifest, stacks)
    missing = [part["name"] for part in needed if not (parts / part["name"]).exists()]
    if missing:
        fail(f"{' '.join(stacks)} needs {', '.join(missing)}, missing in {parts}")
    sums = pool.map(digest, [parts / part["name"] for part in needed])
    damaged = [
        part["name"] for part, got in zip(needed, sums, strict=True) if got != part["sha256"]
    ]
    if damaged:
        fail(f"damaged in {parts}: {', '.join(damaged)}")


def digest(path: Path) -> str:
    """Return a part's sum."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack_all(
    pool: Any, manifest: dict[str, Any], stacks: list[str], given: argparse.Namespace
) -> None:
    """Unpack the streams, the longest first, as there are cores for all of them."""
    laid = [(given.parts / part["name"], part["size"]) for part in manifest["parts"]]
    jobs = []
    for stream in sorted(streams_of(manifest, stacks), key=lambda one: -one["unpacked"]):
        site = given.prefix / "stacks" / stream["stack"] / "engines"
        site.mkdir(parents=True, exist_ok=True)
        jobs.append((laid, stream, site))
    wrong = []
    for stream, seconds, is_right in pool.imap_unordered(unpack, jobs):
        say(f"{stream} {'right' if is_right else 'WRONG'}, in {seconds:.1f} s")
        wrong += [] if is_right else [stream]
    if wrong:
        fail(f"not what was packed: {', '.join(wrong)}")


def unpack(job: tuple[list[tuple[Path, int]], dict[str, Any], Path]) -> tuple[str, float, bool]:
    """Unpack one stream; return its name, the seconds that it took, and whether it is right."""
    laid, stream, site = job
    began = time.time()
    source = Unpacked(Joined(laid, stream["start"], stream["size"]))
    if stream["kind"] == "tar":
        with tarfile.open(fileobj=source, mode="r|", bufsize=1 << 20) as tar:  # type: ignore[call-overload]  # it only reads
            for member in tar:  # extractall makes folders itself, and trips over another stream's
                (site / member.name).parent.mkdir(parents=True, exist_ok=True)
                tar.extract(member, site, filter="fully_trusted")
        while source.read(CHUNK):
            pass
    else:
        write_with_holes(source, site / stream["file"])
    is_right = source.hash.hexdigest() == stream["sha256"]
    return f"{stream['stack']} {stream['name']}", time.time() - began, is_right


def write_with_holes(source: Unpacked, target: Path) -> None:
    """Write a file; what was cut out of it takes no room on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        while data := source.read(CHUNK):
            if data.count(0) == len(data):
                file.seek(len(data), os.SEEK_CUR)
            else:
                file.write(data)
        file.truncate()
    target.chmod(0o755)


def take_shared(manifest: dict[str, Any], stack: str, home: Path) -> None:
    """Take the files that an earlier stack brings: linked, or copied where blocks differ."""
    for stream in streams_of(manifest, [stack]):
        if not stream["owner"]:
            continue
        with (home / "engines" / stream["file"]).open("rb") as said:
            while line := said.readline():
                name, count = line.decode().rstrip("\n").split("\t")
                theirs = home.parent / stream["owner"] / "engines" / name
                target = home / "engines" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                if count == "0":
                    os.link(theirs, target)
                else:
                    copy_changed(theirs, target, said, int(count))


def copy_changed(theirs: Path, target: Path, said: BinaryIO, count: int) -> None:
    """Copy a file and put in the blocks that differ."""
    shutil.copy(theirs, target)
    size = target.stat().st_size
    with target.open("r+b") as file:
        for _ in range(count):
            file.seek(int.from_bytes(said.read(8), "little"))
            file.write(said.read(BLOCK))
        file.truncate(size)


def make_environment(home: Path, commands: dict[str, str]) -> Path:
    """Make an environment whose packages come before the machine's; return its python."""
    engines, machine = home / "engines", machine_site()
    # torch looks for CUDA's libraries beside itself, and Triton for its assembler.
    for library in [*(machine / "nvidia").iterdir(), machine / PTXAS]:
        link = engines / library.relative_to(machine)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(link):
            link.symlink_to(library)
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin/python"
    for site in (home / "lib").glob("python3*/site-packages"):
        lines = f"{engines}\nimport site; site.addsitedir({str(machine)!r})\n"
        (site / "engines.pth").write_text(lines)
    for name, target in commands.items():
        module, function = target.split(":")
        command = home / "bin" / name
        command.write_text(
            f"#!{python}\nimport sys\nfrom {module} import {function.split('.')[0]}\n"
            f"sys.exit({function}())\n"
        )
        command.chmod(0o755)
    return python


def machine_site() -> Path:
    """Return the folder of the packages that the machine has: where its torch is."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None:
        sys.exit(f"FAILED: {sys.executable} has no torch, and so not the CUDA that stacks need")
    return Path(torch.origin).parents[1]


def imports(job: tuple[str, list[str]]) -> tuple[str, bool]:
    """Import what a stack's processes load, in an environment as theirs; say how it went."""
    stack, command = job
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    say(f"{stack} imports\n{done.stdout}{done.stderr[-3000:] if done.returncode else ''}")
    return stack, done.returncode == 0


TRY = """
import importlib, os, sys, torch
print("torch", torch.__version__, "cuda", torch.version.cuda)
if torch.cuda.is_available():
    a = torch.randn(512, 512, device="cuda", dtype=torch.bfloat16)
    print(torch.cuda.get_device_name(), "nccl", torch.cuda.nccl.version(), "bf16 product",
          round((a @ a).float().abs().mean().item(), 1), "(about 18), softmax",
          round(a.softmax(-1).sum().item()), "(512)")
else:
    print("NO GPU HERE")
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    file = os.path.basename(getattr(module, "__file__", None) or "")
    print(name, getattr(module, "__version__", ""), file, flush=True)
"""

if __name__ == "__main__":
    main()
