"""Prometheus metrics in a registry of their own.

Labels are few and known: our routes, statuses and codes, the endpoints, places and classes of the settings,
models that there are, keys that were made. Nothing that a client writes becomes one, and names that can grow
in number are cut off at `MOST_NAMES`. Never contents.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Final, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from daulat.flow import Health, Outcome
from daulat.server.trace import Trace
from daulat.values.money import PER_UNIT

# The moment in which a counter was created doubles the series and tells nothing.
disable_created_metrics()

M = TypeVar("M", Counter, Histogram)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MOST_NAMES: Final = 1000
"""Values of one label; those that come later are counted together."""
OTHER: Final = "other"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_LIMITS = frozenset({"rate_limit_exceeded", "budget_exceeded", "queue_full"})
_HEALTH: Mapping[Health, int] = {"closed": 0, "half_open": 1, "open": 2}

GAUGES: Mapping[str, str] = {
    "running": "Sequences that are computed now.",
    "waiting": "Requests that wait for a place.",
    "loaded_models": "Models in memory.",
    "loaded_adapters": "Adapters in memory.",
    "record_head": "Sequence number of the record's last entry.",
}
"""Names (behind `daulat_`) and help of the numbers that are read when they are asked for."""


class Metrics:
    """Counts what the shell and the handlers report.

    Args:
        read: gives the numbers of `GAUGES`.
        lines: gives the circuit breakers' states by endpoint and model.
        currency: of all costs.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, float]],
        lines: Callable[[], Mapping[tuple[str, str], Health]] = dict,
        currency: str = "USD",
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(_Read(read, lines))
        self._models, self._keys = _Names(), _Names()
        self._requests = self._counter("requests", "Requests.", "route", "model", "status")
        self._duration = self._histogram("request_seconds", "Whole requests.", "route")
        self._first = self._histogram(
            "first_event_seconds",
            "From a request's arrival to the first piece of its answer.",
            "model",
        )
        self._streams = Gauge(
            "daulat_open_streams", "Streams that are being sent.", registry=self._registry
        )
        self._refused = self._counter(
            "policy_refusals", "Requests that the policy kept from a place.", "class", "place"
        )
        self._limited = self._counter(
            "limit_refusals", "Requests refused by a limit, a budget or a full queue.", "code"
        )
        self._attempts = _Attempts(self._registry, self._models, self._keys, currency)

    def request(self, trace: Trace) -> None:
        """One request is over."""
        now = time.monotonic()
        model = self._models.known(trace.model)
        self._requests[trace.route, model, str(trace.status)].inc()
        self._duration[trace.route].observe(now - trace.started)
        if trace.first_event is not None:
            self._first[model].observe(trace.first_event - trace.started)
        for place, name in trace.classes.items():
            self._refused[name, place].inc()
        if trace.error in _LIMITS:
            self._limited[trace.error].inc()
        for outcome in trace.outcomes:
            self._attempts.over(outcome, trace.caller)

    @contextlib.contextmanager
    def stream(self) -> Generator[None]:
        """Counts a stream for as long as it is open."""
        self._streams.inc()
        try:
            yield
        finally:
            self._streams.dec()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, help: str, *labels: str) -> _Children[Counter]:
        return _Children(Counter(f"daulat_{name}", help, labels, registry=self._registry))

    def _histogram(self, name: str, help: str, *labels: str) -> _Children[Histogram]:
        return _Children(
            Histogram(f"daulat_{name}", help, labels, registry=self._registry, buckets=_SECONDS)
        )


class _Children(dict[str | tuple[str, ...], M]):
    """A metric's series by the values of its labels; the library's own look-up takes ten times as long."""

    def __init__(self, metric: M) -> None:
        self._metric = metric

    def __missing__(self, values: str | tuple[str, ...]) -> M:
        every = (values,) if isinstance(values, str) else values
        self[values] = found = self._metric.labels(*every)
        return found


class _Names:
    """The values of a label: as many as `MOST_NAMES`, then `OTHER`."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def known(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= MOST_NAMES:
                return OTHER
            self._known.add(name)
        return name


class _Attempts:
    """What endpoints did: every attempt once, also of requests that failed in the end."""

    def __init__(
        self, registry: CollectorRegistry, models: _Names, keys: _Names, currency: str
    ) -> None:
        self._models, self._keys, self._currency = models, keys, currency

        def counter(name: str, help: str, *labels: str) -> _Children[Counter]:
            return _Children(Counter(f"daulat_{name}", help, labels, registry=registry))

        def histogram(name: str, help: str) -> _Children[Histogram]:
            return _Children(
                Histogram(f"daulat_{name}", help, ["endpoint"], registry=registry, buckets=_SECONDS)
            )

        line = ("endpoint", "model")
        self._ended = counter("attempts", "Attempts by how they ended.", *line, "outcome")
        self._repeated = counter(
            "repeats", "Attempts beyond a request's first, by why they were begun.", *line, "why"
        )
        self._tokens = counter(
            "tokens",
            "Tokens by kind; cached ones are part of the prompt's, reasoning of the completion's.",
            *line,
            "kind",
        )
        self._unpriced = counter("unpriced", "Attempts whose cost nobody knows.", *line)
        self._cost = counter(
            "cost", f"Money, in units of {currency}.", "endpoint", "key", "currency"
        )
        self._first = histogram(
            "attempt_first_token_seconds", "From asking an endpoint to its first token."
        )
        self._whole = histogram("attempt_seconds", "From asking an endpoint to its last word.")

    def over(self, outcome: Outcome, key: str) -> None:
        """One attempt is over."""
        endpoint = outcome.step.endpoint
        line = (endpoint, self._models.known(outcome.step.model_id))
        self._ended[*line, outcome.error or "ok"].inc()
        if outcome.why != "first":
            self._repeated[*line, outcome.why].inc()
        self._count(line, outcome)
        if outcome.money is None:
            self._unpriced[line].inc()
        elif outcome.money:
            # The books are exact; a sample is a float by Prometheus' definition.
            units = outcome.money / PER_UNIT
            self._cost[endpoint, self._keys.known(key), self._currency].inc(units)
        if outcome.times is not None:
            times = outcome.times
            self._whole[endpoint].observe(times.ended - times.begun)
            if times.first is not None:
                self._first[endpoint].observe(times.first - times.begun)

    def _count(self, line: tuple[str, str], outcome: Outcome) -> None:
        usage = outcome.usage
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("cached", usage.cached_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if count:
                self._tokens[*line, kind].inc(count)


class _Read(Collector):
    """The numbers that are read when they are asked for."""

    def __init__(
        self,
        read: Callable[[], Mapping[str, float]],
        lines: Callable[[], Mapping[tuple[str, str], Health]],
    ) -> None:
        self._read = read
        self._lines = lines

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for name, text in GAUGES.items():
            if name in values:
                yield GaugeMetricFamily(f"daulat_{name}", text, value=values[name])
        breakers = GaugeMetricFamily(
            "daulat_breaker",
            "An endpoint's circuit breaker: 0 closed, 1 half-open, 2 open (it is left alone).",
            labels=("endpoint", "model"),
        )
        for (endpoint, model), health in self._lines().items():
            breakers.add_metric((endpoint, model), _HEALTH[health])
        yield breakers
