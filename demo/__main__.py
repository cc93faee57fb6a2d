"""`make demo`: a disaggregated deployment on this machine's CPU, asked the same thing twice."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from compiler.plan import Plan
from compiler.write.plan_reader import plan_from_json
from demo.client import ask, long_prompt, metric
from demo.cpu_stack import dync, launched, model, stack_prefix

PROFILE = Path(__file__).resolve().parent.parent / "profiles" / "disagg-cpu.yaml"
SENTENCES = 102  # about 2,000 tokens


def main() -> int:
    """Run the demo; 0 if LMCache hit, NIXL moved bytes and the warm answer came twice as fast."""
    prefix = stack_prefix()
    weights = model(prefix)
    with tempfile.TemporaryDirectory(prefix="dync-demo-") as folder:
        bundle = Path(folder) / "disagg-cpu"
        # A repeated prompt would be served by vLLM's own prefix cache: off, so that it is LMCache.
        own_cache = "workers[1].engine_args.enable_prefix_caching=false"
        # bfloat16 is emulated, many times slower, on a CPU without AVX512-BF16 or AMX.
        exact = [f"workers[{index}].engine_args.dtype=float32" for index in (0, 1)]
        overrides = (f"model.id={weights}", f"deploy.prefix={prefix}", own_cache, *exact)
        options = [word for override in overrides for word in ("--set", override)]
        dync("build", str(PROFILE), "-o", str(bundle), *options)
        plan = plan_from_json((bundle / "plan.json").read_text(encoding="utf-8"))
        with launched(bundle):
            return _measure(plan)


def _measure(plan: Plan) -> int:
    metrics = {process.name: process.metrics for process in plan.processes}
    prefill = next(url for name, url in metrics.items() if name.startswith("prefill-"))
    decode = next(url for name, url in metrics.items() if name.startswith("decode-"))
    ask(plan.url, plan.served_name, "Hello", max_tokens=1)  # the first handshake is not measured
    prompt = long_prompt("demo", SENTENCES)
    cold = ask(plan.url, plan.served_name, prompt)
    warm = ask(plan.url, plan.served_name, prompt)
    hits = metric(prefill, "vllm:external_prefix_cache_hits_total")
    moved = metric(decode, "vllm:nixl_bytes_transferred_sum")
    print(f"\nprompt                     {cold.prompt_tokens} tokens, twice through the router")
    print(f"time to first token, cold  {cold.first_token_s:.2f} s")
    print(f"time to first token, warm  {warm.first_token_s:.2f} s")
    print(f"LMCache hit tokens         {hits:.0f}")
    print(f"NIXL bytes                 {moved:.0f}")
    print(f"answer                     {warm.text.strip()!r}\n", flush=True)
    faults = [
        text
        for holds, text in (
            (hits > 0, "LMCache never hit"),
            (moved > 0, "NIXL moved nothing"),
            (warm.first_token_s < cold.first_token_s / 2, "warm is not below half of cold"),
        )
        if not holds
    ]
    print("\n".join(f"demo: error: {text}" for text in faults), file=sys.stderr, end="")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
