"""What the dashboard shows, as data: which metrics of which processes, and how to read them.

Names are those that vllm 0.32.0, lmcache 0.5.6, vllm-router 0.1.17 and ai-dynamo 1.6.1 export, held
by tests against what they answered at /metrics. In an expression `@` stands for the selector of the
deployment's processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from compiler.plan import Plan
from compiler.topology import TopologyKind


class Has(str, Enum):
    """What a deployment must have for a panel to say anything."""

    PROCESSES = "processes"
    CACHE_SERVER = "cache server"
    TIERS = "tiers"
    TRANSFER = "transfer"
    VLLM_ROUTER = "router"
    DYNAMO_FRONTEND = "frontend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One expression, and what its lines are called."""

    expression: str
    legend: str = "{{process}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph: its unit in Grafana's words, and the largest value where there is one."""

    title: str
    unit: str
    curves: tuple[Curve, ...]
    says: str
    has: Has = Has.PROCESSES
    kind: str = "timeseries"
    maximum: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


def _quantiles(metric: str) -> tuple[Curve, ...]:
    return tuple(
        Curve(
            expression=f"histogram_quantile({q}, sum by (le, process) "
            f"(rate({metric}_bucket@[$__rate_interval])))",
            legend=f"{{{{process}}}} p{q * 100:g}",
        )
        for q in (0.5, 0.95)
    )


def _rate(metric: str, by: str = "process") -> str:
    return f"sum by ({by}) (rate({metric}@[$__rate_interval]))"


def _share(part: str, whole: str) -> str:
    return f"{_rate(part)} / {_rate(whole)}"


_ROWS = (
    Row(
        title="Requests",
        panels=(
            Panel(
                title="Processes that answer",
                unit="short",
                kind="stat",
                curves=(Curve(expression="up@"),),
                says="1: its /metrics answers; 0: Prometheus cannot reach it.",
            ),
            Panel(
                title="Time to first token",
                unit="s",
                curves=_quantiles("vllm:time_to_first_token_seconds"),
                says="Seen by the engine, half and 95 % of requests. A decode worker's includes "
                "the wait for its KV; a prefill worker's is the computation.",
            ),
            Panel(
                title="Time to first token at the frontend",
                unit="s",
                has=Has.DYNAMO_FRONTEND,
                curves=_quantiles("dynamo_frontend_time_to_first_token_seconds"),
                says="What clients see, as Dynamo's frontend measures it.",
            ),
            Panel(
                title="Time between tokens",
                unit="s",
                curves=_quantiles("vllm:inter_token_latency_seconds"),
                says="Half and 95 % of the tokens after the first.",
            ),
            Panel(
                title="Requests that ended",
                unit="reqps",
                curves=(
                    Curve(
                        expression=_rate("vllm:request_success_total", "process, finished_reason"),
                        legend="{{process}} {{finished_reason}}",
                    ),
                ),
                says="By reason. Disaggregated, a request counts on both of its workers.",
            ),
            Panel(
                title="Requests running and waiting",
                unit="short",
                curves=(
                    Curve(
                        expression="sum by (process) (vllm:num_requests_running@)",
                        legend="{{process}} running",
                    ),
                    Curve(
                        expression="sum by (process) (vllm:num_requests_waiting@)",
                        legend="{{process}} waiting",
                    ),
                ),
                says="In the engine's scheduler.",
            ),
            Panel(
                title="Requests sent to workers",
                unit="reqps",
                has=Has.VLLM_ROUTER,
                curves=(
                    Curve(
                        expression=_rate("vllm_router_processed_requests_total", "worker"),
                        legend="{{worker}}",
                    ),
                ),
                says="By vllm-router.",
            ),
            Panel(
                title="Workers that the router uses",
                unit="short",
                has=Has.VLLM_ROUTER,
                maximum=1,
                curves=(Curve(expression="vllm_router_worker_health@", legend="{{worker}}"),),
                says="1: healthy in the router's eyes.",
            ),
            Panel(
                title="Requests at the frontend",
                unit="reqps",
                has=Has.DYNAMO_FRONTEND,
                curves=(
                    Curve(
                        expression=_rate("dynamo_frontend_requests_total", "status, error_type"),
                        legend="{{status}} {{error_type}}",
                    ),
                ),
                says="By outcome.",
            ),
        ),
    ),
    Row(
        title="Cache",
        panels=(
            Panel(
                title="Hit rate: the engine's own prefix cache",
                unit="percentunit",
                maximum=1,
                curves=(
                    Curve(
                        expression=_share(
                            "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
                        )
                    ),
                ),
                says="Of the tokens looked up. What hits here is never asked of LMCache.",
            ),
            Panel(
                title="Hit rate: LMCache and other KV from outside",
                unit="percentunit",
                maximum=1,
                curves=(
                    Curve(
                        expression=_share(
                            "vllm:external_prefix_cache_hits_total",
                            "vllm:external_prefix_cache_queries_total",
                        )
                    ),
                ),
                says="Of the tokens that the engine did not have. A decode worker counts here what "
                "NIXL brings it.",
            ),
            Panel(
                title="Where prompt tokens come from",
                unit="short",
                curves=(
                    Curve(
                        expression=_rate("vllm:prompt_tokens_by_source_total", "process, source"),
                        legend="{{process}} {{source}}",
                    ),
                ),
                says="Tokens a second: computed, found in the engine, or brought by a connector.",
            ),
            Panel(
                title="The engine's KV memory in use",
                unit="percentunit",
                maximum=1,
                curves=(Curve(expression="max by (process) (vllm:kv_cache_usage_perc@)"),),
                says="At 100 % requests wait or are preempted.",
            ),
            Panel(
                title="Cache server: host memory in use",
                unit="percentunit",
                maximum=1,
                has=Has.CACHE_SERVER,
                curves=(Curve(expression="max by (process) (lmcache_mp_l1_usage_ratio@)"),),
                says="Of the configured size. A full cache evicts what was used least recently.",
            ),
            Panel(
                title="Cache server: bytes held",
                unit="bytes",
                has=Has.CACHE_SERVER,
                curves=(Curve(expression="sum by (process) (lmcache_mp_l1_memory_usage_bytes@)"),),
                says="In host memory.",
            ),
            Panel(
                title="Cache server: hit rate by tier",
                unit="percentunit",
                maximum=1,
                has=Has.CACHE_SERVER,
                curves=tuple(
                    Curve(
                        expression=_share(
                            f"lmcache_mp_lookup_hit_{tier}_tokens_total",
                            "lmcache_mp_lookup_requested_tokens_total",
                        ),
                        legend=f"{{{{process}}}} {name}",
                    )
                    for tier, name in (("l1", "host memory"), ("l2", "storage"))
                ),
                says="Of the tokens that engines asked for.",
            ),
            Panel(
                title="Storage tiers: bytes held",
                unit="bytes",
                has=Has.TIERS,
                curves=(
                    Curve(
                        expression="sum by (process, l2_name) (lmcache_mp_l2_usage_bytes@)",
                        legend="{{process}} {{l2_name}}",
                    ),
                ),
                says="Behind host memory, as the cache server counts them.",
            ),
            Panel(
                title="Storage tiers: chunks written and read",
                unit="ops",
                has=Has.TIERS,
                curves=(
                    Curve(
                        expression=_rate("lmcache_mp_l2_store_completed_objects_chunks_total"),
                        legend="{{process}} written",
                    ),
                    Curve(
                        expression=_rate("lmcache_mp_l2_prefetch_load_completed_chunks_total"),
                        legend="{{process}} read",
                    ),
                ),
                says="Chunks a second.",
            ),
        ),
    ),
    Row(
        title="KV between workers",
        panels=(
            Panel(
                title="NIXL: bytes received",
                unit="Bps",
                has=Has.TRANSFER,
                curves=(Curve(expression=_rate("vllm:nixl_bytes_transferred_sum")),),
                says="Far below what the link can do: look at the transport that UCX chose.",
            ),
            Panel(
                title="NIXL: time of a transfer",
                unit="s",
                has=Has.TRANSFER,
                curves=_quantiles("vllm:nixl_xfer_time_seconds"),
                says="Half and 95 % of transfers.",
            ),
            Panel(
                title="NIXL: failures",
                unit="short",
                has=Has.TRANSFER,
                curves=(
                    Curve(
                        expression="sum by (process) "
                        "(increase(vllm:nixl_num_failed_transfers_total@[$__rate_interval]))",
                        legend="{{process}} transfers failed",
                    ),
                    Curve(
                        expression="sum by (process) "
                        "(increase(vllm:nixl_num_kv_expired_reqs_total@[$__rate_interval]))",
                        legend="{{process}} KV expired",
                    ),
                ),
                says="Any is a reason to look: the prompt is computed again, or the request fails.",
            ),
        ),
    ),
)


def rows(plan: Plan) -> Iterator[Row]:
    """Return the rows and panels that a deployment has something to say in."""
    present = _present(plan)
    for row in _ROWS:
        panels = tuple(panel for panel in row.panels if panel.has in present)
        if panels:
            yield Row(title=row.title, panels=panels)


def _present(plan: Plan) -> set[Has]:
    caches = bool(plan.cache_servers)
    tiers = any(server.tiers for server in plan.cache_servers)
    frontend = plan.frontend.name if plan.frontend else ""
    facts = {
        Has.PROCESSES: True,
        Has.CACHE_SERVER: caches,
        Has.TIERS: tiers,
        Has.TRANSFER: plan.topology is TopologyKind.DISAGG,
        Has.VLLM_ROUTER: Has.VLLM_ROUTER.value == frontend,
        Has.DYNAMO_FRONTEND: Has.DYNAMO_FRONTEND.value == frontend,
    }
    return {fact for fact, holds in facts.items() if holds}
