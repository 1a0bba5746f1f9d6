"""OpenTelemetry: a span of each request, one of each attempt below it, and the GenAI metrics of attempts.

Spans are made when a request is over, from what its trace knows, so a running request is not slowed; their
numbers are fixed before, so that `traceparent` can name them. Nothing here ever sees contents. Requests
without a known key make no spans. Sources: https://opentelemetry.io/docs/specs/semconv/gen-ai/ (attributes,
metrics and their buckets), https://opentelemetry.io/docs/specs/semconv/http/http-spans/. Not here:
`traceparent` itself (`net.tracing`), Prometheus (`metrics`).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from daulat import __version__
from daulat.errors import SettingsError
from daulat.flow import Outcome, Times
from daulat.net import lock, tracing
from daulat.net.calls import checked
from daulat.net.tracing import Place
from daulat.server.trace import Trace
from daulat.settings import Settings
from daulat.settings import Telemetry as Table

if TYPE_CHECKING:
    import requests
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import SpanProcessor

OPERATIONS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderation",
}
"""`gen_ai.operation.name` by route; the last is not one of the conventions' own."""

PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "mistral": "mistral_ai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "compatible": "openai_compatible",
}
"""`gen_ai.provider.name` by the kind of an endpoint."""

_OWN = "daulat"  # the provider of what has no kind: this machine's own models
_TOKEN_BUCKETS: Final = [4.0**power for power in range(14)]
_SECOND_BUCKETS: Final = [0.01 * 2.0**power for power in range(14)]
_CLOSING_MS = 3000
_RANDOM = random.SystemRandom()


class Telemetry:
    """Makes spans and metrics of requests and sends them to the collector of [telemetry].

    Args:
        processor, reader: where they go instead.

    Raises:
        SettingsError: the extra `otel` is not installed, or the table is wrong.
        NetworkError: the lock is on, and the collector is not on this machine.
    """

    def __init__(
        self,
        settings: Settings,
        processor: SpanProcessor | None = None,
        reader: MetricReader | None = None,
    ) -> None:
        try:
            from opentelemetry import trace as api  # noqa: PLC0415
            from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider, sampling  # noqa: PLC0415

            if processor is None or reader is None:
                processor, reader = _exporting(settings.telemetry)
        except ImportError as error:
            raise SettingsError(
                "[telemetry] has a url, and OpenTelemetry is not installed: "
                "pip install 'daulat[otel]'.",
                param="telemetry.url",
            ) from error
        self._api = api
        self._kinds = {name: endpoint.kind for name, endpoint in settings.endpoints.items()}
        self._sampling = settings.telemetry.sampling
        self._ids = _ids()
        resource = Resource.create(
            {"service.name": settings.telemetry.service, "service.version": __version__}
        )
        # What is kept is decided when a request comes; what is not kept is never given to it.
        self._spans = TracerProvider(
            sampler=sampling.ALWAYS_ON, resource=resource, id_generator=self._ids
        )
        self._spans.add_span_processor(processor)
        self._tracer = self._spans.get_tracer("daulat", __version__)
        self._meters = MeterProvider(metric_readers=[reader], resource=resource)
        meter = self._meters.get_meter("daulat", __version__)
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECOND_BUCKETS,
        )

    def begin(self, trace: Trace, traceparent: str) -> None:
        """A request has come: its place in the client's trace, or in one that begins here."""
        above = tracing.read(traceparent)
        span = _RANDOM.getrandbits(64) or 1
        trace.arrived = time.time_ns()
        if above is not None:
            trace.place = Place(above.trace, span, above.sampled, above.span)
        else:
            kept = _RANDOM.random() < self._sampling
            trace.place = Place(_RANDOM.getrandbits(128) or 1, span, kept)
        tracing.enter(trace.place)

    def over(self, trace: Trace) -> None:
        """A request is over."""
        operation = OPERATIONS.get(trace.route)
        if operation is None or not trace.caller or trace.place is None:
            return
        asked = sorted(trace.outcomes, key=lambda outcome: outcome.number)
        for outcome in asked:
            self._measure(outcome, operation)
        if trace.place.sampled:
            self._draw(trace, trace.place, operation, asked)

    def close(self) -> None:
        """Send what is left. Blocks, for a few seconds at the most."""
        self._spans.force_flush(_CLOSING_MS)
        self._spans.shutdown()
        self._meters.shutdown(_CLOSING_MS)

    # --- spans --------------------------------------------------------------------------------------

    def _draw(self, trace: Trace, place: Place, operation: str, asked: list[Outcome]) -> None:
        self._ids.trace, self._ids.span = place.trace, place.span
        span = self._tracer.start_span(
            f"{trace.method} {trace.route}",
            context=self._above(place),
            kind=self._api.SpanKind.SERVER,
            attributes=_of_request(trace),
            start_time=trace.arrived,
        )
        below = self._api.set_span_in_context(span)
        for outcome in asked:
            if outcome.times is None:
                continue
            if outcome.why != "first":
                begun = _instant(trace, outcome.times.begun)
                span.add_event(f"daulat.{outcome.why}", _of_step(outcome), begun)
            self._ids.span = place.attempt(outcome.number).span
            self._attempt(trace, outcome, outcome.times, operation, below)
        if trace.status >= 500 or (trace.error and trace.status == 200):
            span.set_status(self._api.StatusCode.ERROR)
        span.end(_instant(trace, time.monotonic()))

    def _attempt(
        self, trace: Trace, outcome: Outcome, times: Times, operation: str, below: Any
    ) -> None:
        attributes = {
            **self._of_call(outcome, operation),
            **_of_step(outcome),
            **_of_usage(outcome),
        }
        if times.first is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = times.first - times.begun
        span = self._tracer.start_span(
            f"{operation} {attributes['gen_ai.request.model']}",
            context=below,
            kind=self._api.SpanKind.CLIENT,
            attributes=attributes,
            start_time=_instant(trace, times.begun),
        )
        if outcome.error is not None:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(_instant(trace, times.ended))

    def _above(self, place: Place) -> Any:
        """The context of the client's span; an empty one where there is none."""
        from opentelemetry.context import Context  # noqa: PLC0415

        if not place.parent:
            return Context()
        flags = self._api.TraceFlags(int(place.sampled))
        above = self._api.SpanContext(place.trace, place.parent, is_remote=True, trace_flags=flags)
        return self._api.set_span_in_context(self._api.NonRecordingSpan(above), Context())

    # --- metrics ------------------------------------------------------------------------------------

    def _measure(self, outcome: Outcome, operation: str) -> None:
        if outcome.times is None:
            return
        attributes = self._of_call(outcome, operation)
        self._seconds.record(outcome.times.ended - outcome.times.begun, attributes)
        counts = ("input", outcome.usage.prompt_tokens), ("output", outcome.usage.completion_tokens)
        for kind, count in counts:
            if count:
                self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})

    def _of_call(self, outcome: Outcome, operation: str) -> dict[str, Any]:
        """What tells one call from another: few values, all known."""
        step = outcome.step
        model = step.upstream or step.model_id
        kind = self._kinds.get(step.endpoint, "")
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDERS.get(kind, _OWN),
            "gen_ai.request.model": model,
        }
        if outcome.error is None:
            attributes["gen_ai.response.model"] = model
        else:
            attributes["error.type"] = outcome.error
        return attributes


def _of_request(trace: Trace) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "http.request.method": trace.method,
        "http.route": trace.route,
        "http.response.status_code": trace.status,
        "daulat.request": trace.id,
        "daulat.key": trace.caller,
    }
    if trace.error:
        attributes["error.type"] = trace.error
    if trace.asked is not None:
        attributes["daulat.record"] = trace.asked.id
        attributes["daulat.class"] = trace.asked.data_class
        attributes["daulat.model"] = trace.model
    if trace.cost is not None:
        attributes["daulat.cost"] = trace.cost
    return attributes


def _of_step(outcome: Outcome) -> dict[str, Any]:
    return {"daulat.endpoint": outcome.step.endpoint, "daulat.place": outcome.step.place}


def _of_usage(outcome: Outcome) -> dict[str, Any]:
    usage = outcome.usage
    attributes = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    return {name: count for name, count in attributes.items() if count}


def _instant(trace: Trace, moment: float) -> int:
    """A moment of the monotonic clock in nanoseconds since 1970."""
    return trace.arrived + round((moment - trace.started) * 1e9)


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415

    class Ids(IdGenerator):
        """Gives the numbers that were fixed when the request came. Used on the event loop alone."""

        trace = 0
        span = 0

        def generate_trace_id(self) -> int:
            return self.trace

        def generate_span_id(self) -> int:
            return self.span

    return Ids()


# --- the way out ------------------------------------------------------------------------------------


def _exporting(table: Table) -> tuple[SpanProcessor, MetricReader]:
    """Senders to the collector: queues of a bounded length, threads of their own."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
        OTLPMetricExporter,
    )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    _, host = checked(table.url, "[telemetry] url", private=True)
    lock.check(host, "the collector of [telemetry]")
    url, headers = table.url.rstrip("/"), _headers(table.headers)
    spans = OTLPSpanExporter(f"{url}/v1/traces", headers=headers, session=_session())
    metrics = OTLPMetricExporter(f"{url}/v1/metrics", headers=headers, session=_session())
    return BatchSpanProcessor(spans), PeriodicExportingMetricReader(metrics)


def _session() -> requests.Session:
    """Goes where it is sent and nowhere else: no redirects, no proxy, no passwords from ~/.netrc."""
    import requests  # noqa: PLC0415

    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    return session


def _headers(variable: str) -> dict[str, str]:
    """The headers in an environment variable.

    Raises:
        SettingsError: it is not set, or has another form. What it holds is not repeated.
    """
    if not variable:
        return {}
    text = os.environ.get(variable, "")
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not pairs or not all(name.strip() and value.strip() for name, _, value in pairs):
        raise SettingsError(
            f"[telemetry] headers: the environment variable {variable} must hold "
            "name=value,name=value; it is not set, or it holds something else.",
            param="telemetry.headers",
        )
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
