"""HTTP as the socket shows it: nothing is put right, nothing is retried."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from daulat.endpoints.scripted import Upstream

MESSAGES = [{"role": "user", "content": "Where is the harbour?"}]
PROTOCOLS = ("openai", "responses", "anthropic", "gemini", "watsonx")


@dataclass
class Shown:
    """What came: `chunks` of the body as they were framed, `ended` as the framing promised."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False
    closed: bool = False
    raw: bytes = b""
    headers_after: float = 0.0
    pauses: list[float] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The data of whole events; what is no JSON as bytes."""
        found: list[Any] = []
        for event in self.body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]:
            for line in event.split(b"\n"):
                if line.startswith(b"data: "):
                    try:
                        found.append(json.loads(line[6:]))
                    except ValueError:
                        found.append(line[6:])
        return found


def request_of(
    upstream: Upstream, protocol: str, model: str, *, stream: bool, **more: Any
) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Path, headers and body that ask for an answer."""
    contents = [{"role": "user", "parts": [{"text": MESSAGES[0]["content"]}]}]
    bearer = {"Authorization": "Bearer k"}
    match protocol:
        case "openai":
            body: dict[str, Any] = {"model": model, "messages": MESSAGES, "stream": stream}
            if stream:
                body["stream_options"] = {"include_usage": True}
            return "/v1/chat/completions", bearer, body | more
        case "azure":
            body = {"messages": MESSAGES, "stream": stream}
            path = f"/openai/deployments/{model}/chat/completions?api-version=2024-10-21"
            return path, {"api-key": "k"}, body | more
        case "responses":
            return "/v1/responses", bearer, {"model": model, "input": "x", "stream": stream} | more
        case "anthropic":
            body = {"model": model, "messages": MESSAGES, "max_tokens": 1000, "stream": stream}
            return (
                "/v1/messages",
                {"x-api-key": "k", "anthropic-version": "2023-06-01"},
                body | more,
            )
        case "gemini":
            verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
            path = f"/v1beta/models/{model}:{verb}"
            return path, {"x-goog-api-key": "k"}, {"contents": contents, **more}
        case "watsonx":
            path = f"/ml/v1/text/chat{'_stream' if stream else ''}?version=2025-01-01"
            headers = {"Authorization": f"Bearer {ibm_token(upstream)}"}
            return (
                path,
                headers,
                {"model_id": model, "project_id": "p", "messages": MESSAGES, **more},
            )
    raise AssertionError(protocol)


def ibm_token(upstream: Upstream) -> str:
    form = "grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey=k"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return exchange(upstream, "POST", "/identity/token", kind, form.encode()).json()["access_token"]


def ask(
    upstream: Upstream,
    model: str,
    *,
    protocol: str = "openai",
    stream: bool = False,
    seconds: float = 10.0,
    most: int = 100_000_000,
    **more: Any,
) -> Shown:
    """Ask for an answer and look at what comes."""
    path, headers, body = request_of(upstream, protocol, model, stream=stream, **more)
    kind = {"Content-Type": "application/json"}
    return exchange(
        upstream, "POST", path, headers | kind, json.dumps(body).encode(), seconds, most
    )


def exchange(
    upstream: Upstream,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes = b"",
    seconds: float = 10.0,
    most: int = 100_000_000,
) -> Shown:
    """One request on a connection of its own; reading ends with the answer, `most` bytes, or silence."""
    host, port = upstream.url.removeprefix("http://").split(":")
    head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        return _read(connection, most)


def _read(connection: socket.socket, most: int) -> Shown:
    shown = Shown()
    began = last = time.monotonic()
    buffer = bytearray()
    total = 0
    while not shown.ended and total < most:
        try:
            data = connection.recv(1 << 20)
        except TimeoutError:
            return shown
        except ConnectionResetError:
            data = b""
        now = time.monotonic()
        shown.pauses.append(now - last)
        last = now
        if not data:
            shown.closed = True
            return shown
        total += len(data)
        buffer += data
        if total < 1 << 20:
            shown.raw += data
        if not shown.status and b"\r\n\r\n" in buffer:
            shown.headers_after = now - began
            _head(shown, buffer)
        if shown.status:
            _body(shown, buffer)
    return shown


def _head(shown: Shown, buffer: bytearray) -> None:
    head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    shown.status = int(first.split()[1])
    shown.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    buffer[:] = rest


def _body(shown: Shown, buffer: bytearray) -> None:
    if "content-length" in shown.headers:
        shown.chunks.append(bytes(buffer))
        buffer.clear()
        shown.ended = sum(map(len, shown.chunks)) >= int(shown.headers["content-length"])
        return
    while not shown.ended:
        at = buffer.find(b"\r\n")
        size = int(buffer[:at], 16) if at > 0 else -1
        if size < 0 or len(buffer) < at + size + 4:
            return
        if size:
            shown.chunks.append(bytes(buffer[at + 2 : at + 2 + size]))
        shown.ended = size == 0
        del buffer[: at + size + 4]


def said(shown: Shown, protocol: str) -> str:
    """The text of a stream's sound events."""
    found = [event for event in shown.events() if isinstance(event, dict)]
    return "".join(_delta(event, protocol) for event in found)


def _delta(event: dict[str, Any], protocol: str) -> str:
    match protocol:
        case "openai" | "watsonx" | "azure":
            choices = event.get("choices") or [{}]
            return choices[0].get("delta", {}).get("content") or ""
        case "responses":
            return event["delta"] if event.get("type") == "response.output_text.delta" else ""
        case "anthropic":
            return event.get("delta", {}).get("text", "")
        case _:
            candidates = event.get("candidates") or [{}]
            return candidates[0].get("content", {}).get("parts", [{}])[0].get("text", "")
