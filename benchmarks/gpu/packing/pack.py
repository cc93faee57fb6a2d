"""Pack stacks that bring their own torch: assemble, compress, cut into parts, say what is what."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.packing import streams
from benchmarks.gpu.packing.own_torch import RULES, SM, Rules, assemble, lines, site_of
from benchmarks.gpu.packing.shared import Assembled

INSTALLER = Path(__file__).resolve().parent / "install_parts.py"


def brings_own_torch(stack: str) -> bool:
    """Say whether a stack is packed out of an installed environment, not as wheels."""
    return _imported(RULES, stack).exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where things are: installed stacks, what is made on the way, the pack, and its rules."""

    prefix: Path
    work: Path
    parts: Path
    rules: Path = RULES


def pack_installed(stacks: Sequence[str], folders: Folders, part_bytes: int) -> list[Path]:
    """Pack what is installed under prefix; return the parts, the manifest and the installer."""
    work, parts = folders.work, folders.parts
    rules = Rules.read(folders.rules)
    assembled: list[Assembled] = []
    for stack in stacks:
        site = work / "sites" / stack
        assembled.append(assemble(stack, site_of(folders.prefix, stack), site, rules, assembled))
    wanted = [content for one in assembled for content in streams.contents(one, assembled)]
    packed = streams.compress(wanted, work / "streams")
    manifest = {
        "sm": SM,
        "stacks": {
            one.stack: {
                "commands": one.commands,
                "imported": lines(_imported(folders.rules, one.stack)),
            }
            for one in assembled
        },
        "streams": streams.described(packed),
        "parts": streams.cut(packed, parts, part_bytes),
    }
    (parts / "MANIFEST.json").write_text(json.dumps(manifest, indent=1))
    shutil.copy(INSTALLER, parts / INSTALLER.name)
    return sorted(parts.iterdir())


def _imported(rules: Path, stack: str) -> Path:
    """Return the list of what an installer imports to try the stack."""
    return rules / f"imported-{stack}.txt"
