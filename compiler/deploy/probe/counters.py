"""Read a process's Prometheus counters: what its caches, its transfers and its requests did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.deploy.probe.http_client import WITHIN_S, get


@dataclass(frozen=True, slots=True)
class Counters:
    """One reading: (metric name, its labels) to its value; buckets and times of birth left out."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def total(self, name: str, **labels: str) -> float | None:
        """Sum a metric over the labels that are not given; None where it does not occur."""
        wanted = set(labels.items())
        found = [
            value
            for (metric, given), value in self.samples.items()
            if metric == name and wanted <= given
        ]
        return sum(found) if found else None

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Sum a metric for each value of one label, in the order in which they occur."""
        found: dict[str, float] = {}
        for (metric, given), value in self.samples.items():
            named = dict(given).get(label)
            if metric == name and named is not None:
                found[named] = found.get(named, 0.0) + value
        return found

    def grown(self, before: Counters, name: str, **labels: str) -> float | None:
        """Return by how much a metric grew; what was not there before counts from 0."""
        now = self.total(name, **labels)
        return None if now is None else now - (before.total(name, **labels) or 0.0)


def parse_counters(text: str) -> Counters:
    """Read the Prometheus text format.

    Errors: ValueError for text that is none.
    """
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - quick start

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")):
                key = (sample.name, frozenset(sample.labels.items()))
                samples[key] = samples.get(key, 0.0) + sample.value
    return Counters(samples)


def read_counters(url: str, timeout_s: float = WITHIN_S) -> Counters | None:
    """Read the counters that a process shows; None where it does not answer with any."""
    text = get(url, timeout_s)
    try:
        return None if text is None else parse_counters(text)
    except ValueError:
        return None
