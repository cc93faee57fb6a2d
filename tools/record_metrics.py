"""Record what the processes of a CPU deployment answer at /metrics, for tests/metrics.

    python tools/record_metrics.py CASE PROFILE [KEY=VALUE...]

Builds profiles/PROFILE.yaml with the demo's model, launches it, asks each of a few prompts three
times and writes tests/metrics/CASE/PROCESS.txt: the metrics of engines, caches and frontends
without those of the Python and Tokio runtimes. The model's folder is written as MODEL.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.write.plan_reader import plan_from_json  # noqa: E402
from demo.client import ask, long_prompt  # noqa: E402
from demo.cpu_stack import dync, launched, model, stack_prefix  # noqa: E402

OURS = re.compile(r"(?:# (?:HELP|TYPE) )?(?:vllm|lmcache|dynamo_frontend)")
SETTLE_S = 10  # vLLM hands NIXL's numbers on with the next step, OpenTelemetry every few seconds


def main() -> None:
    """Record one case."""
    case, profile, *overrides = sys.argv[1:]
    stack = "dynamo-1.6" if profile.startswith("dynamo") else "vllm-0.32"
    weights = model(stack_prefix(), random=True)
    given = (f"model.id={weights}", f"deploy.prefix={stack_prefix(stack)}", *overrides)
    with tempfile.TemporaryDirectory(prefix="dync-metrics-") as folder:
        bundle = Path(folder) / profile
        options = [word for override in given for word in ("--set", override)]
        dync("build", str(ROOT / "profiles" / f"{profile}.yaml"), "-o", str(bundle), *options)
        plan = plan_from_json((bundle / "plan.json").read_text(encoding="utf-8"))
        with launched(bundle):
            for number in range(36):
                ask(plan.url, plan.served_name, long_prompt(f"prompt-{number % 12}", 40))
            time.sleep(SETTLE_S)
            for process in plan.processes:
                with urllib.request.urlopen(process.metrics, timeout=30) as answer:
                    text = answer.read().decode()
                place = ROOT / "tests" / "metrics" / case / f"{process.name}.txt"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(recorded(text, str(weights)), encoding="utf-8")


def recorded(text: str, weights: str) -> str:
    """Keep what the deployment's own programs count, without paths of this machine."""
    lines = text.replace(weights, "MODEL").splitlines(keepends=True)
    return "".join(line for line in lines if OURS.match(line) and "_created" not in line)


if __name__ == "__main__":
    main()
