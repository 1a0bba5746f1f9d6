"""Every route: who may call it, how it answers what is wrong, and what it says of itself."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest
from servers import KEY, STARTER, Server

from daulat import __version__
from daulat.server.openapi import describe
from daulat.server.routes import ROUTES

OPEN = {("GET", "/health"), ("GET", "/openapi.json")}
"""The written list: what answers without a key, besides the console's pages."""

JSON = {"Content-Type": "application/json"}


def ask(
    server: Server, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, Any]:
    """One request with exactly these headers."""
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    kind = response.headers.get("content-type", "")
    return response, json.loads(text) if "json" in kind and text else text


def error_of(body: Any) -> dict[str, Any]:
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_without_a_key_only_the_open_routes_answer(scripted: Server, route: Any) -> None:
    path = route.path.replace("{model}", STARTER).replace("{response_id}", "rec-1")
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"api-key": KEY},
        {"x-api-key": "wrong"},
        *([] if route.anthropic else [{"x-api-key": KEY}]),
    ):
        for method in {route.method, "HEAD" if route.method == "GET" else route.method}:
            response, body = ask(scripted, method, path, b"not json", {**JSON, **headers})
            if (route.method, route.path) in OPEN:
                assert response.status == 200
                continue
            assert response.status == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD" and route.anthropic:
                assert body["error"]["type"] == "authentication_error"
            elif method != "HEAD":
                assert error_of(body)["code"] == "invalid_api_key"


def test_the_open_routes_are_those_of_the_table() -> None:
    assert {(route.method, route.path) for route in ROUTES if not route.guarded} == OPEN


def test_health(scripted: Server) -> None:
    _, body = ask(scripted, "GET", "/health")
    assert body == {"status": "ok", "version": __version__}


def test_the_description_is_served(scripted: Server) -> None:
    _, body = ask(scripted, "GET", "/openapi.json")
    assert body == json.loads(json.dumps(describe(ROUTES)))
    assert set(body["paths"]) == {route.path for route in ROUTES}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "GET"])
def test_a_wrong_method_is_told_the_right_one(scripted: Server, method: str) -> None:
    response, body = ask(scripted, method, "/v1/chat/completions")
    assert response.status == 405
    assert response.headers["allow"] == "POST"
    assert error_of(body)["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1", "/v1/chat", "/v1/models/", "/health/", "/../x", "/%00"])
def test_what_is_not_there_is_404(scripted: Server, path: str) -> None:
    response, body = ask(scripted, "GET", path)
    assert response.status == 404
    assert error_of(body)["code"] == "not_found"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8000"}, 200),
    ],
)
def test_only_our_own_names_are_served(
    scripted: Server, headers: dict[str, str], status: int
) -> None:
    response, body = ask(scripted, "GET", "/health", headers=headers)
    assert response.status == status
    if status == 403:
        assert error_of(body)["code"] == "permission_denied"
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


def chat_body(text: str = "hello") -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps({"model": STARTER, "messages": [message]}).encode()


def test_only_json_is_taken(scripted: Server) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    for headers in (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {**JSON, "Content-Encoding": "gzip"},
    ):
        response, body = ask(
            scripted, "POST", "/v1/chat/completions", chat_body(), {**key, **headers}
        )
        assert response.status == 415
        assert error_of(body)["code"] == "unsupported_media_type"
    good = {**key, "Content-Type": "Application/JSON; charset=utf-8"}
    assert ask(scripted, "POST", "/v1/chat/completions", chat_body(), good)[0].status == 200


def test_a_body_over_the_limit_is_refused_declared_or_not(scripted: Server) -> None:
    headers = {"Authorization": f"Bearer {KEY}", **JSON}
    big = chat_body("x" * 20001)
    for body in (big, iter([big[:5000], big[5000:]])):
        response, answer = ask(scripted, "POST", "/v1/chat/completions", body, headers)
        assert response.status == 413
        assert error_of(answer)["code"] == "request_too_large"


def test_a_length_that_is_never_sent_is_refused_at_once(scripted: Server) -> None:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: 99999999999999999999999999\r\n\r\n"
    )
    with socket.create_connection(scripted.address, timeout=10) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(1000)
    assert b" 413 " in answer or b" 400 " in answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b'{"prediction": ' + b"[" * 15000,
        b"[" * 15000,
    ],
)
def test_broken_bodies_get_400_and_the_server_lives(scripted: Server, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {KEY}", **JSON}
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        response, answer = ask(scripted, "POST", path, body, headers)
        assert response.status == 400
        assert error_of(answer)["type"] == "invalid_request_error"
    assert ask(scripted, "GET", "/health")[0].status == 200


def test_every_answer_has_a_request_id_and_no_server_header(scripted: Server) -> None:
    for path in ("/health", "/v1/models", "/nothing"):
        response, _ = ask(scripted, "GET", path)
        assert len(response.headers["x-request-id"]) == 16
        assert "server" not in response.headers
