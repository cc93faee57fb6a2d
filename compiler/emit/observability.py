"""Emit what watches a deployment: a scrape file for Prometheus and a dashboard for Grafana."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from compiler.document import Json
from compiler.emit.artifact import Artifact, header
from compiler.emit.panels import Curve, Panel, rows
from compiler.emit.quoting import yaml_lines
from compiler.emit.render import Renderer
from compiler.plan import Plan
from compiler.process import Kind, Process

FOLDER = "observability"
SCRAPE_INTERVAL = "15s"
_SCHEMA_VERSION = 36  # of Grafana 10; newer ones migrate it when they load it
_SOURCE: dict[str, Any] = {"type": "prometheus", "uid": "${source}"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 24


def emit_observability(plan: Plan, _renderer: Renderer) -> Iterator[Artifact]:
    """Emit both files; neither holds a secret, and /metrics asks for none.

    Source: vLLM 0.32.0, vllm/entrypoints/serve/middleware/authenticate.py: a key guards /v1 alone.
    """
    yield Artifact(path=f"{FOLDER}/prometheus.yml", text=_prometheus(plan))
    text = json.dumps(dashboard(plan), indent=1, ensure_ascii=False) + "\n"
    yield Artifact(path=f"{FOLDER}/dashboard.json", text=text)


def job(plan: Plan) -> str:
    """Name the deployment's scrape job, by which the dashboard finds its processes."""
    return f"dync-{plan.name}"


def _prometheus(plan: Plan) -> str:
    processes = [process for process in plan.processes if process.metrics]
    found: dict[str, Json] = {
        "scrape_configs": [
            {
                "job_name": job(plan),
                "scrape_interval": SCRAPE_INTERVAL,
                "static_configs": [_target(process) for process in processes],
            }
        ]
    }
    lines = [f"# {line}" for line in header(plan)]
    lines += [
        "# Run it on this host: prometheus --config.file=observability/prometheus.yml",
        "# Or let a Prometheus that you have include it: scrape_config_files, since 2.43.",
    ]
    return "\n".join((*lines, *yaml_lines(found))) + "\n"


def _target(process: Process) -> dict[str, Json]:
    url = urlsplit(process.metrics)
    labels: dict[str, Json] = {"process": str(process.name), "kind": process.kind.value}
    if process.role:
        labels["role"] = process.role.value
    if process.gpus and process.kind is Kind.WORKER:
        labels["gpus"] = ",".join(process.gpus)
    if url.path != "/metrics":
        labels["__metrics_path__"] = url.path
    return {"targets": [url.netloc], "labels": labels}


def dashboard(plan: Plan) -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON model; the panels of a row stand three abreast.

    Source: grafana-foundation-sdk 10.1.0, models/dashboard.py, the schema of Grafana 10.1.
    """
    selector = f'{{job="{job(plan)}", process=~"$process"}}'
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows(plan):
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "gridPos": place,
                "collapsed": False,
                "panels": [],
            }
        )
        y += 1
        for number, panel in enumerate(row.panels):
            column, below = number % 3, number // 3
            place = {"x": column * _WIDTH, "y": y + below * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append({"id": len(panels) + 1, **_panel(panel, selector), "gridPos": place})
        y += -(-len(row.panels) // 3) * _HEIGHT
    return {
        "uid": job(plan),
        "title": f"dync: {plan.name}",
        "description": " ".join(header(plan)),
        "tags": ["dync", "vllm", "lmcache"],
        "editable": True,
        "schemaVersion": _SCHEMA_VERSION,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables(plan)},
        "panels": panels,
    }


def _panel(panel: Panel, selector: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    targets = [
        _target_of(curve, selector, chr(ord("A") + number), is_instant=panel.kind == "stat")
        for number, curve in enumerate(panel.curves)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def _target_of(curve: Curve, selector: str, letter: str, *, is_instant: bool) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "expr": curve.expression.replace("@", selector),
        "legendFormat": curve.legend,
        "instant": is_instant,
        "range": not is_instant,
    }


def _variables(plan: Plan) -> list[dict[str, Any]]:
    query = f'label_values(up{{job="{job(plan)}"}}, process)'
    return [
        {"name": "source", "type": "datasource", "label": "Prometheus", "query": "prometheus"},
        {
            "name": "process",
            "type": "query",
            "label": "Process",
            "datasource": _SOURCE,
            "query": query,
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]
