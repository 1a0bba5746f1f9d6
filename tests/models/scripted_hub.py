"""A Hub on this machine that speaks the real one's protocol, and fails on request.

Files are served by a second server, to which the first one redirects, as the real Hub does with its
storage: two origins, ranges, entity tags.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_INFO = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/revision/(?P<revision>.+)\?blobs=true")
_FILE = re.compile(r"/(?P<id>[^/]+/[^/]+)/resolve/(?P<commit>[0-9a-f]{40})/(?P<file>.+)")


@dataclass
class Faults:
    """What goes wrong. Numbers count down to zero.

    Attributes:
        busy: requests answered 503, to come back at once.
        cut: file answers that break off in the middle.
        damage: file answers with one byte changed.
        more: file answers with a byte too many and no length.
        no_ranges: ranges are ignored.
        gated: repositories that want a token.
    """

    busy: int = 0
    cut: int = 0
    damage: int = 0
    more: int = 0
    no_ranges: bool = False
    gated: set[str] = field(default_factory=set[str])

    def take(self, name: str) -> bool:
        left: int = getattr(self, name)
        if left:
            setattr(self, name, left - 1)
        return left > 0


@dataclass
class Asked:
    """A request that came."""

    storage: bool
    path: str
    range: str
    token: str


class ScriptedHub:
    """Repositories in memory behind two real HTTP servers."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.card: dict[str, Any] = {"license": "apache-2.0"}
        self.large = 1000  # from this size on, a file is stated by its SHA-256
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.url = self.storage = ""

    def add(self, name: str, files: dict[str, bytes]) -> None:
        self.repositories[name] = files

    def info(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "sha": COMMIT,
            "cardData": self.card,
            "siblings": [
                self._sibling(file, data) for file, data in self.repositories[name].items()
            ],
        }

    def _sibling(self, file: str, data: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\x00" % len(data) + data, usedforsecurity=False).hexdigest()
        one: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": blob}
        if len(data) >= self.large:
            one["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        return one

    def tokens(self, *, storage: bool) -> set[str]:
        return {one.token for one in self.asked if one.storage is storage}


class _Handler(BaseHTTPRequestHandler):
    hub: ScriptedHub
    storage = False
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "")
        asked = Asked(self.storage, self.path, self.headers.get("Range", ""), token)
        self.hub.asked.append(asked)
        if self.hub.faults.take("busy"):
            self._send(503, b"", {"Retry-After": "0"})
        elif self.storage:
            self._bytes()
        elif match := _INFO.fullmatch(self.path):
            self._info(match["id"], token)
        elif match := _FILE.fullmatch(self.path):
            self._send(302, b"", {"Location": f"{self.hub.storage}{self.path}"})
        else:
            self._send(404, b"{}", {})

    def _info(self, name: str, token: str) -> None:
        refused = name in self.hub.faults.gated and token != "Bearer hf_right"
        if refused or name not in self.hub.repositories:
            self._send(401, b'{"error":"Invalid credentials"}', {})
        else:
            body = json.dumps(self.hub.info(name)).encode()
            self._send(200, body, {"Content-Type": "application/json"})

    def _bytes(self) -> None:
        match = _FILE.fullmatch(self.path)
        data = self.hub.repositories[match["id"]][match["file"]] if match else b""
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", tag) == tag
        if wanted and same and not self.hub.faults.no_ranges:
            start, status = int(wanted[1]), 206
        if start >= len(data) and status == 206:
            self._send(416, b"", {})
            return
        body = data[start:]
        if self.hub.faults.take("damage"):
            body = body[:-1] + bytes([body[-1] ^ 1])
        if self.hub.faults.take("more"):
            self._send_headers(status, {"ETag": tag, "Connection": "close"})
            self.wfile.write(body + b"!")
            self.close_connection = True
            return
        cut = self.hub.faults.take("cut")
        self._send_headers(status, {"ETag": tag, "Content-Length": str(len(body))})
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._send_headers(status, {**headers, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_headers(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def scripted_hub() -> Iterator[ScriptedHub]:
    """A running one."""
    hub = ScriptedHub()
    servers = [
        ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub, "storage": storage})
        )
        for storage in (False, True)
    ]
    hub.url, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
