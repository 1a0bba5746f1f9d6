"""OpenTelemetry: traceparent there and on, spans and metrics as the SDK and a real collector get them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from gateway import gateway
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from servers import KEY

from daulat.errors import NetworkError, SettingsError
from daulat.flow import Outcome, Times
from daulat.net import lock, tracing
from daulat.net.tracing import Place
from daulat.server.telemetry import Telemetry
from daulat.server.trace import Trace
from daulat.settings import Settings
from daulat.settings import Telemetry as Table
from daulat.values.answer import Usage
from daulat.values.plan import Step

CHAT = "/v1/chat/completions"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STEP = Step("vendor", "us", "closed", "m", "", upstream="gpt-m")

# --- traceparent ----------------------------------------------------------------------------------


@given(
    st.one_of(st.text(max_size=80), st.from_regex(r"[0-9a-f]{2}(-[0-9a-f]*){3,4}", fullmatch=True))
)
@example(PARENT)
@example(PARENT.replace("00-", "ff-"))
@example(PARENT.replace("00-", "01-") + "-more")
@example(PARENT + "-more")
@example("00-" + "0" * 32 + "-b7ad6b7169203331-01")
@example("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01")
@example(PARENT.upper())
def test_traceparent_is_read_as_opentelemetry_reads_it(header: str) -> None:
    found = tracing.read(header)
    # Its own reading forgives white space around a header, which HTTP has taken away before.
    if header != header.strip():
        return
    context = TraceContextTextMapPropagator().extract({"traceparent": header})
    theirs = get_current_span(context).get_span_context()
    if found is None:
        assert not theirs.is_valid
    else:
        assert (found.trace, found.span) == (theirs.trace_id, theirs.span_id)
        assert found.sampled == theirs.trace_flags.sampled


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), st.integers(0, 99))
def test_a_place_is_written_as_it_is_read(trace: int, span: int, kept: bool, number: int) -> None:
    place = Place(trace, span, kept)
    assert tracing.read(place.header()) == place
    below = place.attempt(number)
    assert (below.trace, below.sampled) == (trace, kept)
    assert below.span not in (span, place.attempt(number + 1).span)
    assert below == place.attempt(number)


# --- spans and metrics, in memory ---------------------------------------------------------------


class Memory:
    """Telemetry whose spans and metrics stay here."""

    def __init__(self, home: Path, **table: Any) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        settings = Settings(home, telemetry=Table(url="http://127.0.0.1:1", **table))
        self.telemetry = Telemetry(settings, SimpleSpanProcessor(self.spans), self.reader)

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return {metric.name: list(metric.data.data_points) for metric in metrics}


def over(memory: Memory, traceparent: str = "", **fields: Any) -> Trace:
    """A request that was retried and then answered."""
    trace = Trace("POST", route=CHAT, status=200, caller="key-1", **fields)
    memory.telemetry.begin(trace, traceparent)
    at = trace.started
    trace.outcomes = [
        Outcome(0, STEP, "upstream_timeout", Usage(0), 0, "first", Times(at, None, at + 1)),
        Outcome(1, STEP, None, Usage(7, 5, 3, 0, 2), 9, "retry", Times(at + 1, at + 1.25, at + 2)),
    ]
    memory.telemetry.over(trace)
    return trace


def test_a_request_and_its_attempts_are_spans(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    trace = over(memory, PARENT)
    failed, answered, server = memory.spans.get_finished_spans()
    assert server.name == f"POST {CHAT}"
    assert server.kind is SpanKind.SERVER
    assert server.parent is not None
    assert f"{server.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{server.parent.span_id:016x}" == PARENT.split("-")[2]
    assert [event.name for event in server.events] == ["daulat.retry"]
    assert server.attributes["http.response.status_code"] == 200
    assert server.status.status_code is StatusCode.UNSET
    for number, span in enumerate((failed, answered)):
        assert (span.name, span.kind) == ("chat gpt-m", SpanKind.CLIENT)
        assert span.parent.span_id == server.context.span_id
        assert trace.place is not None
        assert span.context.span_id == trace.place.attempt(number).span
        assert span.attributes["gen_ai.operation.name"] == "chat"
        assert span.attributes["gen_ai.request.model"] == "gpt-m"
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "upstream_timeout"
    assert "gen_ai.response.model" not in failed.attributes
    told = answered.attributes
    assert told["gen_ai.response.model"] == "gpt-m"
    assert told["gen_ai.usage.input_tokens"] == 7
    assert told["gen_ai.usage.output_tokens"] == 5
    assert told["gen_ai.usage.cache_read.input_tokens"] == 3
    assert told["gen_ai.usage.reasoning.output_tokens"] == 2
    assert told["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.25)
    assert answered.end_time - answered.start_time == pytest.approx(1e9, abs=1000)
    assert failed.end_time == pytest.approx(answered.start_time, abs=1000)


def test_the_genai_metrics(tmp_path: Path) -> None:
    memory = Memory(tmp_path, sampling=0)
    over(memory)
    points = memory.points()
    tokens = {p.attributes["gen_ai.token.type"]: p for p in points["gen_ai.client.token.usage"]}
    assert {kind: p.sum for kind, p in tokens.items()} == {"input": 7, "output": 5}
    assert tokens["input"].explicit_bounds[:3] == (1, 4, 16)
    seconds = points["gen_ai.client.operation.duration"]
    assert sorted(p.attributes.get("error.type", "") for p in seconds) == ["", "upstream_timeout"]
    assert seconds[0].explicit_bounds[:2] == (0.01, 0.02)


def test_what_is_not_sampled_makes_no_spans(tmp_path: Path) -> None:
    never, always = Memory(tmp_path, sampling=0), Memory(tmp_path)
    over(never)
    over(always, PARENT[:-1] + "0")
    assert not never.spans.get_finished_spans()
    assert not always.spans.get_finished_spans()
    over(never, PARENT)
    assert len(never.spans.get_finished_spans()) == 3


def test_strangers_and_other_routes_make_no_spans(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    for caller, route in (("", CHAT), ("key-1", "/health"), ("key-1", "")):
        trace = Trace("GET", route=route, status=200, caller=caller)
        memory.telemetry.begin(trace, PARENT)
        memory.telemetry.over(trace)
    assert not memory.spans.get_finished_spans()


def test_a_stream_that_broke_is_an_error(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    over(memory, error="upstream_unavailable")
    *_, server = memory.spans.get_finished_spans()
    assert server.status.status_code is StatusCode.ERROR
    assert server.attributes["error.type"] == "upstream_unavailable"


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table("collector:4318"), "url must be https"),
        (Table("http://8.8.8.8:4318"), "no private address"),
        (Table("https://user:secret@host"), "does not belong"),
        (Table("http://127.0.0.1:1", headers="DAULAT_NOT_SET"), "DAULAT_NOT_SET must hold"),
    ],
)
def test_a_wrong_table_is_told_at_the_start(tmp_path: Path, table: Table, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Telemetry(Settings(tmp_path, telemetry=table))


def test_headers_that_cannot_be_read_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAULAT_OTLP", "just-a-secret")
    table = Table("http://127.0.0.1:1", headers="DAULAT_OTLP")
    with pytest.raises(SettingsError) as raised:
        Telemetry(Settings(tmp_path, telemetry=table))
    assert "just-a-secret" not in str(raised.value)


def test_the_lock_holds_for_telemetry(tmp_path: Path) -> None:
    lock.set_lock(True)
    try:
        with pytest.raises(NetworkError, match="lock"):
            Telemetry(Settings(tmp_path, telemetry=Table("https://collector.example")))
    finally:
        lock.set_lock(False)


_WITHOUT = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
from pathlib import Path
from daulat.errors import SettingsError
from daulat.settings import Settings, Telemetry as Table
from daulat.server.telemetry import Telemetry
try:
    Telemetry(Settings(Path("."), telemetry=Table("http://127.0.0.1:1")))
except SettingsError as error:
    print(error)
"""


def test_without_the_extra_the_error_names_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT], capture_output=True, text=True, check=True
    )
    assert "pip install 'daulat[otel]'" in done.stdout


def test_off_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, daulat.server.run, daulat.endpoints.remote.upstream;"
        "print([n for n in sys.modules if n.startswith(('opentelemetry', 'requests', 'google'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- a real collector -------------------------------------------------------------------------------


class Collector(HTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Taking)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def bodies(self, path: str) -> list[bytes]:
        return [body for place, _, body in self.got if place == path]


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Collector)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.got.append((self.path, headers, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.shutdown()
    found.server_close()


def spans_of(collector: Collector) -> list[Any]:
    found: list[Any] = []
    for body in collector.bodies("/v1/traces"):
        request = ExportTraceServiceRequest.FromString(body)
        found += [s for r in request.resource_spans for c in r.scope_spans for s in c.spans]
    return found


def attributes(one: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in one.attributes}


def test_a_collector_gets_spans_and_metrics_and_upstreams_the_trace(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAULAT_OTLP", "x-tenant=hall, authorization=Bearer t")
    url = f"http://127.0.0.1:{collector.server_port}"
    more = f'[telemetry]\nurl = "{url}"\nheaders = "DAULAT_OTLP"\nservice = "hall"\n'
    secret = "extraordinarily-private"
    said = [{"role": "user", "content": secret}]
    with gateway(tmp_path / "home", more) as hub:
        headers = {
            "traceparent": PARENT,
            "tracestate": f"vendor={secret}",
            "baggage": f"a={secret}",
        }
        body = {"model": "fallback", "messages": said, "stream": True, "user": secret}
        response = hub.server.post(CHAT, body, headers=headers)
        assert response.headers["daulat-endpoint"] == "second"
        hub.server.post(CHAT, {**body, "model": secret})
        upstream = [*hub.first.requests(), *hub.second.requests()]
    spans = {span.span_id.hex(): span for span in spans_of(collector)}
    mine = [span for span in spans.values() if span.trace_id.hex() == PARENT.split("-")[1]]
    (server,) = [span for span in mine if span.kind == 2]
    assert server.parent_span_id.hex() == PARENT.split("-")[2]
    assert attributes(server)["daulat.record"] == response.headers["daulat-record"]
    assert [event.name for event in server.events] == ["daulat.retry", "daulat.fallback"]
    attempts = [span for span in mine if span.kind == 3]
    assert len(attempts) == 3
    # What an endpoint was told is the very span of the attempt.
    told = [request["headers"]["traceparent"] for request in upstream]
    assert sorted(told) == sorted(
        f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in attempts
    )
    assert all(not {"tracestate", "baggage"} & set(request["headers"]) for request in upstream)
    (last,) = [span for span in attempts if "gen_ai.response.model" in attributes(span)]
    assert attributes(last)["gen_ai.provider.name"] == "openai_compatible"
    assert attributes(last)["daulat.place"] == "own-network"
    metrics = [
        ExportMetricsServiceRequest.FromString(body) for body in collector.bodies("/v1/metrics")
    ]
    names = {
        m.name
        for r in metrics
        for s in r.resource_metrics
        for c in s.scope_metrics
        for m in c.metrics
    }
    assert {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"} <= names
    for _, sent, body in collector.got:
        assert sent["x-tenant"] == "hall"
        assert secret.encode() not in body
        assert KEY.encode() not in body


def test_without_telemetry_upstreams_get_no_trace(tmp_path: Path) -> None:
    with gateway(tmp_path / "home") as hub:
        body = {"model": "second/m", "messages": [{"role": "user", "content": "Hello"}]}
        hub.server.post(CHAT, body, headers={"traceparent": PARENT})
        assert all("traceparent" not in r["headers"] for r in hub.second.requests())


def test_a_collector_that_is_gone_hinders_nobody(tmp_path: Path) -> None:
    more = '[telemetry]\nurl = "http://127.0.0.1:9"\n'
    with gateway(tmp_path / "home", more) as hub:
        body = {"model": "second/m", "messages": [{"role": "user", "content": "Hello"}]}
        assert hub.server.post(CHAT, body).status_code == 200
    assert hub.server.process.returncode == 0
