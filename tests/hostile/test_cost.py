"""Text that was written to keep dync busy is answered in time that grows as its size does.

The figures are in benchmarks/compile.md; the bound here only tells linear from quadratic.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.diagnostic import MOST_SHOWN
from tests.support import AGG, ROOT

SIZE = 150_000
CPU_S = 20
HEAD = AGG.replace("workers: [{role: aggregated, gpus: [0]}]\n", "")
GROUP = f"{HEAD}workers:\n  - role: aggregated\n    gpus: [0]\n"


def many(line: str) -> str:
    """Repeat a line, with its number for each N, up to SIZE."""
    return "".join(line.replace("N", str(at)) for at in range(SIZE // len(line)))


TEXTS = {
    "equal-keys": HEAD + many("a: 1\n"),
    "unknown-keys": AGG + many("workersN: 1\n"),
    "unknown-options": f"{GROUP}    engine_args:\n" + many("      max_model_lenN: 1\n"),
    "unknown-variables": f"{GROUP}    env:\n" + many("      VLLM_LOG_LEVELN: 1\n"),
    "no-workers": f"{HEAD}workers:\n" + many("- 1\n"),
    "empty-workers": f"{HEAD}workers:\n" + many("- {}\n"),
    "ambiguous": f"{HEAD}workers:\n" + many("- no\n"),
    "comments": AGG + many("# dync: ignore[lmcache-disk] x\n"),
    "comments-on-values": GROUP[:-4] + "\n" + many("    - 0 # dync: ignore[gpu-count] x\n"),
    "comments-unknown": AGG + many("# dync: ignore[lmcache-diskN] x\n"),
    "one-comment": f"{AGG}# dync: ignore[{many('a,')}] x\n",
    "one-comment-unknown": f"{AGG}# dync: ignore[{many('lmcache-diskN,')}] x\n",
    "underscores": f"{AGG}deploy: {{user: 1{'_' * SIZE}x}}\n",
    "colons": f"{AGG}frontend: {{host: '{':' * SIZE}x'}}\n",
    "long-line": f"{AGG}discovery: {{etcd_endpoints: [{many('x, ')}]}}\n",
    "addresses": f"{AGG}deploy: {{user: '{many('://a:b')}'}}\n",
    "names": f"{AGG}deploy: {{user: '{many('password: ')}'}}\n",
    "pairs": f"{AGG}deploy: {{user: '{many('password=')}'}}\n",
    "secrets-on-one-line": f"{GROUP}    engine_args: {{x: {{{many('api_keyN: abcdef, ')}",
    "replicas": f"{GROUP}    replicas: 10000\n    env:\n" + many("      A_N: 1\n"),
    "tokens": f"{GROUP}    env:\n" + many("      A_N_TOKEN: xyz_N\n"),
}
PROGRAM = """
import sys, time
from compiler.cli.main import dync
try:
    dync(["check", sys.argv[1], "--format", sys.argv[2]])
finally:
    print(time.process_time(), file=open(sys.argv[3], "w"))
"""


def cpu_seconds(path: Path, style: str) -> tuple[float, bytes]:
    """Return the processor time of a check in a process of its own, and what it printed."""
    took = path.with_suffix(".time")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), style, str(took)],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    return float(took.read_text()), done.stdout + done.stderr


@pytest.mark.parametrize("name", TEXTS)
def test_time_grows_as_the_text_does(name: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(TEXTS[name], "utf-8")
    seconds, text = cpu_seconds(path, "text")
    assert seconds < CPU_S
    assert len(text) < 200_000


def test_text_shows_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    comments = "".join("# dync: ignore[lmcache-disk] x\n" for _ in range(100))
    path.write_text(f"{AGG}{comments}deploy: {{}} # dync: ignore[y] z\n", "utf-8")
    _, text = cpu_seconds(path, "text")
    assert text.count(b"= rule:") == MOST_SHOWN
    assert text.count(b": error: ") == 1
    assert text.endswith(b"\nand 51 more (51 warnings): --format json shows all of them\n")
    _, text = cpu_seconds(path, "json")
    assert len(json.loads(text)) == 101
