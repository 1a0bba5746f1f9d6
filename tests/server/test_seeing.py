"""What is seen from outside: headers of every dialect, metrics, scopes, and spend."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from gateway import Gateway, gateway
from prometheus_client.parser import text_string_to_metric_families
from servers import Server

from daulat.server.metrics import MOST_NAMES, OTHER, Metrics
from daulat.server.routes import ROUTES, Route
from daulat.server.trace import HEADERS, Trace

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
SAID = [{"role": "user", "content": "Where is the harbour?"}]
ANTHROPIC = {"anthropic-version": "2023-06-01"}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": SAID},
    MESSAGES: {"messages": SAID, "max_tokens": 50},
    RESPONSES: {"input": "Where is the harbour?"},
    "/v1/completions": {"prompt": "The harbour is"},
    "/v1/embeddings": {"input": "harbour"},
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("gateway") / "home") as found:
        yield found


def post(hub: Gateway, path: str, model: str, **fields: Any) -> httpx2.Response:
    body = {"model": model, **BODIES[path], **fields}
    return hub.server.post(path, body, headers=ANTHROPIC if path == MESSAGES else {})


def samples(server: Server) -> Samples:
    text = server.request("GET", "/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    """By how much the sums of a metric over these labels have grown."""

    def total(found: Samples) -> float:
        wanted = set(labels.items())
        return sum(v for (n, have), v in found.items() if n == name and wanted <= have)

    return total(after) - total(before)


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_every_dialect_names_who_answered(hub: Gateway, path: str, stream: bool) -> None:
    if path == "/v1/embeddings":
        if stream:
            pytest.skip("embeddings have no stream")
        response = post(hub, path, "first/vectors")
    else:
        response = post(hub, path, "first/m", stream=stream)
    assert response.status_code == 200, response.text
    headers = response.headers
    assert headers["daulat-record"].startswith("rec-")
    assert (headers["daulat-endpoint"], headers["daulat-place"]) == ("first", "us")
    assert headers["daulat-model"] == ("vectors" if path == "/v1/embeddings" else "m")
    assert headers["daulat-class"] == "internal"
    assert "daulat-attempts" not in headers
    ours = {name for name in headers if name.startswith("daulat-")}
    assert ours <= set(HEADERS)
    if not stream and path != "/v1/embeddings":
        assert headers["daulat-cost"].endswith(" USD")
        assert headers["daulat-cost"] != "0 USD"
    assert ("daulat-cost" in headers) == (not stream and path != "/v1/embeddings")


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_a_fallback_counts_its_attempts(hub: Gateway, path: str) -> None:
    response = post(hub, path, "fallback")
    assert response.status_code == 200
    assert response.headers["daulat-endpoint"] == "second"
    assert response.headers["daulat-place"] == "own-network"
    # The first one is asked twice, until its breaker opens at a first failure and it is asked no more.
    assert response.headers["daulat-attempts"] in ("3", "2")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_an_error_after_attempts_names_them_too(hub: Gateway, path: str, stream: bool) -> None:
    response = post(hub, path, "first/gone", stream=stream)
    assert response.status_code == 502
    assert (response.headers["daulat-endpoint"], response.headers["daulat-place"]) == (
        "first",
        "us",
    )
    assert response.headers["daulat-record"].startswith("rec-")
    assert response.headers["daulat-class"] == "internal"
    assert response.headers["daulat-model"] == "gone"
    # The breaker opens on the way, after that the endpoint is not asked; one attempt needs no header.
    assert response.headers.get("daulat-attempts", "") in (
        ("",) if _resting(response) else ("", "2")
    )


def _resting(response: httpx2.Response) -> bool:
    return "times in a row" in response.text


def test_a_streams_cost_is_in_its_last_event(hub: Gateway) -> None:
    response = post(hub, CHAT, "first/m", stream=True)
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
    told = json.loads(lines[-1])["daulat"]
    assert told["record"] == response.headers["daulat-record"]
    assert told["cost"].endswith(" USD")
    assert told["cost"] != "0 USD"


def test_the_description_names_the_headers(hub: Gateway) -> None:
    paths = hub.server.request("GET", "/openapi.json").json()["paths"]
    for path in BODIES:
        assert set(paths[path]["post"]["responses"]["200"]["headers"]) == set(HEADERS)


# --- metrics ------------------------------------------------------------------------------------


def test_attempts_tokens_money_and_times_are_counted(hub: Gateway) -> None:
    before = samples(hub.server)
    answer = post(hub, CHAT, "second/m").json()
    after = samples(hub.server)
    line = {"endpoint": "second", "model": "m"}
    usage = answer["usage"]
    assert grown(before, after, "daulat_attempts_total", **line, outcome="ok") == 1
    for kind in ("prompt", "completion"):
        count = grown(before, after, "daulat_tokens_total", **line, kind=kind)
        assert count == usage[f"{kind}_tokens"]
    spent = grown(before, after, "daulat_cost_total", endpoint="second", key="env", currency="USD")
    assert spent == pytest.approx(float(answer["daulat"]["cost"].split()[0]))
    for name in ("attempt_seconds", "attempt_first_token_seconds"):
        assert grown(before, after, f"daulat_{name}_count", endpoint="second") == 1
        assert grown(before, after, f"daulat_{name}_sum", endpoint="second") > 0


def test_why_attempts_were_begun_is_counted(hub: Gateway) -> None:
    before = samples(hub.server)
    post(hub, CHAT, "fallback")
    hedged = post(hub, CHAT, "hedged")
    assert hedged.headers["daulat-endpoint"] == "second"
    resumed = post(hub, CHAT, "resumed", stream=True)
    assert "[DONE]" in resumed.text
    after = samples(hub.server)
    repeats = "daulat_repeats_total"
    assert grown(before, after, repeats, endpoint="second", why="fallback") >= 1
    assert grown(before, after, repeats, endpoint="second", why="hedge") == 1
    assert grown(before, after, "daulat_attempts_total", model="slow", outcome="hedged") == 1
    assert grown(before, after, repeats, endpoint="second", why="continuation") == 1


def test_a_failing_endpoint_is_retried_and_then_left_alone(hub: Gateway) -> None:
    before = samples(hub.server)
    for _ in range(4):
        post(hub, CHAT, "fallback")
    after = samples(hub.server)
    line = {"endpoint": "first", "model": "down"}
    assert after["daulat_breaker", frozenset(line.items())] == 2
    assert after["daulat_breaker", frozenset({"endpoint": "second", "model": "m"}.items())] == 0
    assert grown(before, after, "daulat_attempts_total", **line) >= 4
    failed = "daulat_attempts_total", frozenset({**line, "outcome": "upstream_unavailable"}.items())
    repeated = "daulat_repeats_total", frozenset({**line, "why": "retry"}.items())
    assert after[failed] >= 5
    assert after[repeated] >= 1


def test_refusals_name_class_and_place_and_nothing_else(hub: Gateway) -> None:
    before = samples(hub.server)
    body = {"model": "first/m", "messages": [{"role": "user", "content": "budi@example.co.id"}]}
    refused = hub.server.post(CHAT, body)
    assert refused.status_code == 403
    after = samples(hub.server)
    policy = {"class": "personal", "place": "us"}
    assert grown(before, after, "daulat_policy_refusals_total", **policy) == 1
    assert "budi" not in hub.server.request("GET", "/metrics").text


def test_a_budget_that_refuses_is_counted(hub: Gateway) -> None:
    before = samples(hub.server)
    key = new_key(hub.server, "poor", "--budget", "0.0000001/day")
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": "second/m", "messages": SAID}
    assert hub.server.post(CHAT, body, headers=headers).status_code == 429
    after = samples(hub.server)
    assert grown(before, after, "daulat_limit_refusals_total", code="budget_exceeded") == 1


def test_open_streams_are_counted_down_again(hub: Gateway) -> None:
    name = ("daulat_open_streams", frozenset[tuple[str, str]]())
    body = {"model": "second/m", "messages": SAID, "stream": True}
    headers = {
        "Authorization": hub.server.request("GET", "/health").request.headers["authorization"]
    }
    with httpx2.stream("POST", hub.server.url + CHAT, json=body, headers=headers) as response:
        next(response.iter_raw())
    assert samples(hub.server)[name] in (0, 1)
    post(hub, CHAT, "second/m", stream=True)
    assert samples(hub.server)[name] == 0


def test_a_hostile_client_makes_no_series(hub: Gateway) -> None:
    post(hub, CHAT, "second/m")
    hub.server.post(CHAT, {"model": "x", "messages": SAID})
    hub.server.request("GET", "/nothing")
    hub.server.post(CHAT, {"model": "x", "messages": SAID}, headers={"Authorization": "Bearer x"})
    hub.server.request("GET", "/v1/models/none")
    hub.server.post(CHAT, {"model": "second/m"}, headers={"daulat-class": "none"})
    before = set(samples(hub.server))
    for i in range(30):
        evil = f"evil-{i}"
        for model in (evil, f"second/{evil}", f"native/{evil}", f"m:{evil}", f"{evil}\n# x"):
            hub.server.post(CHAT, {"model": model, "messages": SAID, "user": evil})
        hub.server.request("GET", f"/{evil}")
        hub.server.request("GET", f"/v1/models/{evil}")
        body = {"model": "second/m", "messages": SAID}
        hub.server.post(CHAT, body, headers={"Authorization": f"Bearer {evil}"})
        hub.server.post(CHAT, body, headers={"daulat-class": evil})
        hub.server.request("GET", "/metrics", headers={"traceparent": evil, "x-request-id": evil})
    after = set(samples(hub.server))
    assert after == before


def test_names_that_grow_in_number_are_cut_off() -> None:
    metrics = Metrics(dict)
    for i in range(MOST_NAMES + 50):
        metrics.request(Trace("POST", route=CHAT, model=f"model-{i}", status=200))
    families = text_string_to_metric_families(metrics.text().decode())
    (requests,) = [family for family in families if family.name == "daulat_requests"]
    assert len(requests.samples) == MOST_NAMES + 1
    (rest,) = [s.value for s in requests.samples if s.labels["model"] == OTHER]
    assert rest == 50


# --- scopes -------------------------------------------------------------------------------------


def new_key(server: Server, name: str, *options: str) -> str:
    command = [sys.executable, "-m", "daulat", "--home", str(server.home), "keys", "create", name]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def scoped(hub: Gateway) -> dict[str, str]:
    """A key for each scope alone."""
    return {
        scope: new_key(hub.server, f"only-{scope}", "--scope", scope)
        for scope in ("ask", "metrics", "admin")
    }


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.guarded], ids=lambda r: f"{r.method} {r.path}"
)
def test_a_key_without_the_scope_is_refused_before_its_body_is_read(
    hub: Gateway, scoped: dict[str, str], route: Route
) -> None:
    path = route.path.replace("{model}", "none").replace("{response_id}", "rec-1")
    for scope, key in scoped.items():
        headers = {
            "Authorization": f"Bearer {key}",
            **ANTHROPIC,
            "content-type": "application/json",
        }
        response = hub.server.request(route.method, path, content=b"not json", headers=headers)
        if route.scope in ("", scope):
            assert response.status_code != 403, response.text
        else:
            assert response.status_code == 403
            assert f"`{route.scope}`" in response.text


def test_the_scopes_of_the_routes() -> None:
    scopes = {(route.method, route.path): route.scope for route in ROUTES if route.guarded}
    without = {("GET", "/v1/models"), ("GET", "/v1/models/{model}")}
    assert {place for place, scope in scopes.items() if not scope} == without
    assert scopes["GET", "/metrics"] == "metrics"
    for place, scope in scopes.items():
        if place[1].startswith("/admin"):
            assert scope == "admin"
        elif place not in without | {("GET", "/metrics")}:
            assert scope == "ask"


# --- spend --------------------------------------------------------------------------------------


def test_spend_is_what_the_command_says(hub: Gateway, scoped: dict[str, str]) -> None:
    post(hub, CHAT, "second/m")
    headers = {"Authorization": f"Bearer {scoped['admin']}"}
    told = hub.server.request("GET", "/admin/spend?by=endpoint,key", headers=headers).json()
    command = [sys.executable, "-m", "daulat", "--home", str(hub.server.home), "spend", "--json"]
    done = subprocess.run(
        [*command, "--by", "endpoint", "--by", "key"], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    for row in (*said["rows"], said["total"]):
        assert row.pop("currency") == told["currency"]
    order = ("endpoint", "key")
    assert sorted(told["rows"], key=lambda r: [r[n] for n in order]) == sorted(
        said["rows"], key=lambda r: [r[n] for n in order]
    )
    assert told["total"] == said["total"]
    assert (told["since"], told["until"]) == (said["since"], said["until"])


@pytest.mark.parametrize(
    "query",
    [
        "by=password",
        "by=day,day",
        "by=",
        "since=2026-13-01",
        "since=yesterday",
        "since=2026-02-01&until=2026-01-01",
        "since=2026-01-01&since=2026-01-02",
        "until=20260101",
        "limit=1",
        "since",
        "by=%ff",
        "by=" + "x" * 600,
    ],
)
def test_a_wrong_query_is_a_400(hub: Gateway, scoped: dict[str, str], query: str) -> None:
    headers = {"Authorization": f"Bearer {scoped['admin']}"}
    response = hub.server.request("GET", f"/admin/spend?{query}", headers=headers)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] in ("by", "since", "until", "query")


def test_days_without_use_are_an_empty_report(hub: Gateway, scoped: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {scoped['admin']}"}
    query = "since=2001-01-01&until=2001-01-31"
    told = hub.server.request("GET", f"/admin/spend?{query}", headers=headers).json()
    assert (told["rows"], told["total"]) == ([], None)
