"""Prepare what a GPU machine runs: bundles of this checkout, the rig, and engines if asked.

python -m benchmarks.gpu prepare KIT [--prefix DIR] [--stack STACK] [--accelerator cpu]
    [--gpu N] [--first-port N]
python -m benchmarks.gpu pack-engines WORK PARTS [--stack STACK] [--part-mib 60]
    [--prefix DIR, where `dync stack install` put STACK, whose torch is not the machine's]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu.forms import Machine
from benchmarks.gpu.pack_engines import pack
from benchmarks.gpu.packing.pack import Folders, brings_own_torch, pack_installed
from benchmarks.gpu.prepare import prepare


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kit = commands.add_parser("prepare")
    kit.add_argument("kit", type=Path)
    kit.add_argument("--prefix", type=Path, default=Path("/tmp/dync-gpu"))
    kit.add_argument("--stack", default="vllm-0.25")
    kit.add_argument("--accelerator", default="cuda")
    kit.add_argument("--gpu", type=int, default=0, help="of all bundles for one GPU")
    kit.add_argument("--first-port", type=int, default=20000)
    engines = commands.add_parser("pack-engines")
    engines.add_argument("work", type=Path)
    engines.add_argument("parts", type=Path)
    engines.add_argument("--stack", action="append", help="default: vllm-0.25")
    engines.add_argument("--prefix", type=Path, help="of installed stacks")
    engines.add_argument("--part-mib", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        machine = Machine(
            prefix=arguments.prefix,
            stack=arguments.stack,
            accelerator=arguments.accelerator,
            gpu=arguments.gpu,
            first_port=arguments.first_port,
        )
        prepare(arguments.kit, machine)
        print(f"on the GPU machine: {arguments.kit}/run.sh OUT SUITE...")
    else:
        for part in _pack(arguments):
            print(part)
    return 0


def _pack(arguments: argparse.Namespace) -> list[Path]:
    """Pack the stacks in their way: torch is the machine's, or travels."""
    stacks: list[str] = arguments.stack or ["vllm-0.25"]
    if len(stacks) == 1 and not brings_own_torch(stacks[0]):
        return pack(stacks[0], arguments.work, arguments.parts, arguments.part_mib)
    if not all(brings_own_torch(stack) for stack in stacks):
        sys.exit(f"{', '.join(stacks)} do not share a pack: one alone takes the machine's torch")
    if arguments.prefix is None:
        sys.exit(f"{', '.join(stacks)}: say with --prefix where dync stack install put it")
    given = Folders(prefix=arguments.prefix, work=arguments.work, parts=arguments.parts)
    return pack_installed(stacks, given, arguments.part_mib << 20)


if __name__ == "__main__":
    sys.exit(main())
