"""Prometheus metrics in a registry of their own.

Labels are few and known: our routes, statuses, our models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from daulat.server.trace import Trace

# The moment in which a counter was created doubles the series and tells nothing.
disable_created_metrics()

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

GAUGES: Mapping[str, str] = {
    "running": "Sequences that are computed now.",
    "waiting": "Requests that wait for a place.",
    "loaded_models": "Models in memory.",
    "loaded_adapters": "Adapters in memory.",
    "record_head": "Sequence number of the record's last entry.",
}
"""Names (behind `daulat_`) and help of the numbers that are read when they are asked for."""


class Metrics:
    """Counts what the shell and the handlers report; `read` gives the numbers of `GAUGES`."""

    def __init__(self, read: Callable[[], Mapping[str, float]]) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(_Gauges(read))
        self._requests = self._counter("requests", "Requests.", "route", "model", "status")
        self._tokens_in = self._counter("prompt_tokens", "Tokens read from prompts.", "model")
        self._tokens_out = self._counter("completion_tokens", "Tokens given in answers.", "model")
        self._duration = self._histogram("request_seconds", "Whole requests.", "route")
        self._first = self._histogram(
            "first_event_seconds",
            "From a request's arrival to the first piece of its answer.",
            "model",
        )

    def request(self, trace: Trace) -> None:
        """One request is over."""
        now = time.monotonic()
        self._requests.labels(trace.route, trace.model, str(trace.status)).inc()
        self._duration.labels(trace.route).observe(now - trace.started)
        if trace.first_event is not None:
            self._first.labels(trace.model).observe(trace.first_event - trace.started)
        if trace.usage:
            self._tokens_in.labels(trace.model).inc(trace.usage.prompt_tokens)
            self._tokens_out.labels(trace.model).inc(trace.usage.completion_tokens)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"daulat_{name}", help, labels, registry=self._registry)

    def _histogram(self, name: str, help: str, *labels: str) -> Histogram:
        return Histogram(f"daulat_{name}", help, labels, registry=self._registry, buckets=_SECONDS)


class _Gauges(Collector):
    def __init__(self, read: Callable[[], Mapping[str, float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for name, text in GAUGES.items():
            if name in values:
                yield GaugeMetricFamily(f"daulat_{name}", text, value=values[name])
