"""Prepare what a GPU machine runs: bundles of this checkout, the rig, and engines if asked.

python -m benchmarks.gpu prepare KIT [--prefix DIR] [--stack STACK] [--accelerator cpu]
    [--gpu N] [--first-port N]
python -m benchmarks.gpu pack-engines WORK PARTS [--stack STACK] [--part-mib 60]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu.pack_engines import pack
from benchmarks.gpu.prepare import Machine, prepare


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
    engines.add_argument("--stack", default="vllm-0.25", help="or dynamo-1.3")
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
        for part in pack(arguments.stack, arguments.work, arguments.parts, arguments.part_mib):
            print(part)
    return 0


if __name__ == "__main__":
    sys.exit(main())
