"""Write `schemas/architectures.json`: which release of vLLM has which architectures of models.

    python tools/read_architectures.py 0.32.0=SITE 0.25.1=SITE ...

SITE is a folder with that release's `vllm` package; nothing of it is imported.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def architectures(site: Path) -> set[str]:
    """Return the names in the registry's tables: each maps one to a module and a class."""
    registry = site / "vllm" / "model_executor" / "models" / "registry.py"
    tables = (
        node.value
        for node in ast.parse(registry.read_text("utf-8")).body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict)
    )
    return {
        key.value
        for table in tables
        for key, value in zip(table.keys, table.values, strict=True)
        if isinstance(key, ast.Constant)
        and isinstance(key.value, str)
        and isinstance(value, ast.Tuple)
    }


def main() -> None:
    """Write each architecture with the releases that have it."""
    found: dict[str, list[str]] = {}
    for word in sys.argv[1:]:
        release, _, site = word.partition("=")
        for name in architectures(Path(site)):
            found.setdefault(name, []).append(release)
    lines = [f"  {json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)]
    about = "Made by tools/read_architectures.py: the releases of vLLM whose registry has it."
    body = ",\n".join(lines)
    text = f'{{\n "about": {json.dumps(about)},\n "architectures": {{\n{body}\n }}\n}}\n'
    (ROOT / "schemas" / "architectures.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
