"""The scrape file and the dashboard, checked against what the stacks' processes really export."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from compiler.emit.observability import dashboard, emit_observability
from compiler.emit.render import Renderer
from compiler.library import templates
from compiler.plan import Plan
from compiler.process import Kind, Tier
from compiler.write.plan_reader import plan_from_json
from tests.support import AGG, IN_PROCESS, PROFILES, ROOT, compile_file, free_port, plan_in, plan_of

RECORDED = ROOT / "tests" / "metrics"
GOLDEN = sorted((ROOT / "tests/golden").glob("*/expected/plan.json"))
CASES = {
    "vllm-0.32-agg": "agg-cpu",
    "vllm-0.32-agg-tier": "agg-cpu",
    "vllm-0.32-disagg": "disagg-cpu",
    "dynamo-1.6-disagg": "dynamo-disagg-cpu",
}
DISK = Tier(kind="fs", place="/kv", folder="/kv", persistent=True, shared=False)
NAME = re.compile(r"\b((?:vllm|lmcache_mp|vllm_router|dynamo)[a-z0-9_:]+)(?=\{)")
FAMILY = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


def recorded_plan(case: str) -> Plan:
    """Return the plan of a recorded run under a name of its own; only one had a tier."""
    plan = replace(
        plan_in(compile_file(PROFILES / f"{CASES[case]}.yaml")), name=case.replace(".", "-")
    )
    if not case.endswith("-tier"):
        return plan
    caches = (
        replace(p, tiers=(DISK,)) if p.kind is Kind.CACHE_SERVER else p for p in plan.processes
    )
    return replace(plan, processes=tuple(caches))


def expressions(plan: Plan) -> Iterator[tuple[str, str]]:
    """Return every query of the dashboard with its panel's title."""
    for panel in dashboard(plan)["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def exported(case: str) -> set[str]:
    """Return every name that a recorded run has samples of."""
    found = set()
    for path in (RECORDED / case).glob("*.txt"):
        for family, kind in FAMILY.findall(path.read_text("utf-8")):
            found |= {f"{family}{part}" for part in PARTS.get(kind, ("",))}
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_metric_of_the_dashboard_is_exported(case: str) -> None:
    known, used = exported(case), set()
    for title, expression in expressions(recorded_plan(case)):
        names = set(NAME.findall(expression))
        assert names or expression.startswith("up{")
        assert names <= known, (title, names - known)
        used |= names
    assert len(used) >= 12


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parts[-3])
def test_the_scrape_file_has_every_process(path: Path) -> None:
    plan = plan_from_json(path.read_text("utf-8"))
    files = {item.path: item.text for item in emit_observability(plan, Renderer(templates()))}
    (job,) = yaml.safe_load(files["observability/prometheus.yml"])["scrape_configs"]
    scraped = {
        target["labels"]["process"]: f"http://{target['targets'][0]}"
        + target["labels"].get("__metrics_path__", "/metrics")
        for target in job["static_configs"]
    }
    assert scraped == {p.name: p.metrics for p in plan.processes if p.metrics}
    assert job["job_name"] == f"dync-{plan.name}"
    assert all(f'job="{job["job_name"]}"' in expr for _, expr in expressions(plan))
    secrets = {file for process in plan.processes for file in process.secrets.values()}
    assert not any(file in text for file in secrets for text in files.values())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parts[-3])
def test_the_dashboard_fits_grafanas_schema(path: Path) -> None:
    given = dashboard(plan_from_json(path.read_text("utf-8")))
    read_back = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    assert list(lost(given, read_back)) == []
    places = [panel["gridPos"] for panel in given["panels"]]
    for number, one in enumerate(places):
        for other in places[:number]:
            across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
            down = one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
            assert not (across and down)
    assert len({panel["id"] for panel in given["panels"]}) == len(places)


def lost(given: Any, read_back: Any, path: str = "") -> Iterator[str]:
    """Return what the schema's own types dropped or changed; they may add defaults."""
    if isinstance(given, dict) and isinstance(read_back, dict):
        for key, value in given.items():
            yield from lost(value, read_back.get(key), f"{path}/{key}")
    elif isinstance(given, list) and isinstance(read_back, list):
        for number, value in enumerate(given):
            item = read_back[number] if number < len(read_back) else None
            yield from lost(value, item, f"{path}/{number}")
    elif given != read_back:
        yield f"{path}: {given!r} became {read_back!r}"


def test_panels_are_those_the_deployment_has_something_to_say_in() -> None:
    titles = {title for title, _ in expressions(plan_of(AGG, *IN_PROCESS))}
    assert not any(
        word in title for title in titles for word in ("NIXL", "server", "tier", "router")
    )
    assert "Hit rate: LMCache and other KV from outside" in titles


@contextmanager
def serving(text: str) -> Iterator[str]:
    """Answer /metrics with a recorded text; return its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="needs Debian's prometheus",
)


@needs_prometheus
def test_promtool_takes_the_scrape_file_and_every_expression(tmp_path: Path) -> None:
    for path in GOLDEN:
        plan = plan_from_json(path.read_text("utf-8"))
        text = next(emit_observability(plan, Renderer(templates()))).text
        (tmp_path / f"{plan.name}.yml").write_text(text)
    configs = sorted(map(str, tmp_path.glob("*.yml")))
    subprocess.run(["promtool", "check", "config", *configs], check=True, capture_output=True)
    rules = [
        {"record": f"rule_{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression) in enumerate(expressions(recorded_plan("dynamo-1.6-disagg")))
    ]
    (tmp_path / "rules").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", tmp_path / "rules"], check=True)


@needs_prometheus
def test_a_real_prometheus_finds_something_for_every_panel(tmp_path: Path) -> None:
    jobs, asked = [], []
    with ExitStack() as stack:
        for case in CASES:
            plan = recorded_plan(case)
            texts = {
                p.name: (RECORDED / case / f"{p.name}.txt").read_text() for p in plan.processes
            }
            moved = tuple(
                replace(p, metrics=stack.enter_context(serving(texts[p.name])))
                for p in plan.processes
            )
            plan = replace(plan, processes=moved)
            text = next(emit_observability(plan, Renderer(templates()))).text
            jobs += yaml.safe_load(text.replace("15s", "1s"))["scrape_configs"]
            asked += [(case, title, expression) for title, expression in expressions(plan)]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
        url = stack.enter_context(prometheus(tmp_path))
        silent = asked
        give_up = time.monotonic() + 120
        while silent and time.monotonic() < give_up:
            time.sleep(1)
            silent = [item for item in silent if not answers(url, item[2])]
        assert silent == []


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Run a Prometheus on a free port; return its URL."""
    port = free_port()
    argv = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/db",
    ]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(url: str, expression: str) -> bool:
    """Return whether a query has any series; the window is that of two scrapes and more."""
    query = expression.replace("$__rate_interval", "20s").replace("$process", ".*")
    asked = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
    except OSError:
        return False
    return bool(found)
