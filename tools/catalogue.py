r"""Generate a stack's option catalogues from the released packages.

    python tools/catalogue.py STACK --python PYTHON [--site DIR] [--date DATE] \
        -o schemas/stacks/STACK

``PYTHON`` is an interpreter that has the stack's dependencies installed. ``--site`` names a folder
with unpacked wheels (``unzip -d DIR *.whl``) that take precedence over what is installed; with it
one environment can read several releases, and a GPU wheel can be read without a GPU. Nothing is
run but the packages' own argument parsers, with an environment that has no HOME and none of this
shell's variables, so that the same packages give the same bytes. Only the standard library is
needed here; the ``dump_*.py`` scripts run under ``PYTHON``. ``README.md`` here has the steps.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parent

LMCACHE = {"dump_lmcache.py": ["lmcache-config.json", "lmcache-server.json"]}
# By what starts a stack's workers, the first word of its name.
DUMPS: dict[str, dict[str, list[str]]] = {
    "vllm": {
        "dump_vllm.py": ["vllm.json", "vllm-env.json"],
        **LMCACHE,
        "dump_vllm_router.py": ["vllm-router.json"],
    },
    "dynamo": {
        "dump_dynamo.py": [
            "vllm.json",
            "vllm-env.json",
            "dynamo-worker.json",
            "dynamo-frontend.json",
        ],
        **LMCACHE,
    },
}
PACKAGES = {"vllm": "vllm", "dynamo": "ai-dynamo"}


def run_dump(script: str, outputs: list[Path], python: str, site: Path | None) -> None:
    """Run one dump script under the stack's interpreter; show its log only if it fails."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}
    if site is not None:
        env["PYTHONPATH"] = str(site.resolve())
    command = [python, "-W", "ignore", str(TOOLS / script), *map(str, outputs)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def finished(found: dict[str, Any], date: str) -> str:
    """Return a catalogue's stable text, with the header that says where it came from."""
    catalogue = {key: value for key, value in found.items() if key != "unmapped"}
    catalogue |= {"generated_by": "tools/catalogue.py", "generated_on": date}
    return json.dumps(catalogue, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def summary(name: str, found: dict[str, Any]) -> str:
    """Say how many options have which types, and which callables nobody has mapped."""
    title = f"{name}: {found['package']} {found['version']}"
    if "names" in found:
        return f"{title}: {len(found['names'])} names"
    options = found["options"].values()
    counts = Counter("+".join(option["types"]) for option in options)
    text = ", ".join(f"{types} {count}" for types, count in sorted(counts.items()))
    lines = [f"{title}: {len(found['options'])} options: {text}"]
    lines += [f"  unmapped callable, taken as string: {call}" for call in found["unmapped"]]
    return "\n".join(lines)


def check_stack(stack: str, found: dict[str, Any]) -> None:
    """Refuse to file one release's options under another's name."""
    package, version = found["package"], found["version"]
    kind = stack.partition("-")[0]
    if package == PACKAGES[kind] and not f"{kind}-{version}.".startswith(f"{stack}."):
        raise SystemExit(
            f"stack {stack} was asked for, but the interpreter has {package} {version}"
        )


def generate(args: argparse.Namespace) -> bool:
    """Write all catalogues of a stack; tell whether every callable was mapped."""
    complete = True
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for script, names in DUMPS[args.stack.partition("-")[0]].items():
            paths = [Path(folder) / name for name in names]
            run_dump(script, paths, args.python, args.site)
            for path in filter(Path.exists, paths):
                found = json.loads(path.read_text(encoding="utf-8"))
                check_stack(args.stack, found)
                text = finished(found, args.date)
                (args.output / path.name).write_text(text, encoding="utf-8")
                print(summary(path.name, found))
                complete = complete and not found.get("unmapped")
    return complete


def main() -> int:
    """Run the command line."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stack", help="for example vllm-0.32")
    parser.add_argument("--python", required=True, help="an interpreter with the dependencies")
    parser.add_argument("--site", type=Path, help="a folder of unpacked wheels to read first")
    parser.add_argument("--date", default=today, help="the header's date (default: today, UTC)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return 0 if generate(parser.parse_args()) else 1


if __name__ == "__main__":
    sys.exit(main())
