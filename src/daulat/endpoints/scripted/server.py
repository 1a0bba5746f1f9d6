"""The scripted upstream on a socket: in this process, or in one of its own for tests and benchmarks.

uvicorn with uvloop and httptools; its protocol hands the connection's transport to the application, which
cuts it where the script says so. Not here: the application (`app`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from daulat.endpoints.scripted.app import app
from daulat.endpoints.scripted.program import TRANSPORT
from daulat.endpoints.scripted.script import Script
from daulat.errors import UnavailableError

_STOP_SECONDS: Final = 10.0
_BACKLOG: Final = 4096


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with the transport in the scope."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # pyright: ignore[reportGeneralTypeIssues]


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        UnavailableError: it cannot be had.
    """
    try:
        listener = socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        words = f"Cannot listen on {host} port {port} ({error.strerror}): give another --port."
        raise UnavailableError(words) from error
    listener.setblocking(False)
    return listener


def serve(
    script: Script,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    strict: bool = True,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Serve a script until Ctrl-C or SIGTERM.

    Args:
        on_ready: called once with the address, `http://127.0.0.1:8089`, when it answers.

    Raises:
        UnavailableError: the address cannot be had.
        SettingsError: the script's public key is no key.
    """
    with contextlib.closing(bind(host, port)) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}"
        application: Any = app(script, strict=strict)
        config = uvicorn.Config(
            application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=300,
            timeout_graceful_shutdown=1,
            backlog=_BACKLOG,
        )
        server = _Server(config, lambda: on_ready and on_ready(url))
        with asyncio.Runner(loop_factory=_loop) as runner:
            runner.run(server.serve(sockets=[listener]))


def _loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not on Windows

    return uvloop.new_event_loop()


@dataclass(frozen=True, slots=True)
class Upstream:
    """A scripted upstream that runs in a process of its own."""

    url: str
    pid: int

    def ledger(self) -> dict[str, Any]:
        """`{"entries": […], "totals": {…}}`."""
        return self._asked("GET", "/scripted/ledger")

    def requests(self) -> list[dict[str, Any]]:
        """The last requests: id, path, query, headers, body."""
        return self._asked("GET", "/scripted/requests")["requests"]

    def reset(self) -> None:
        """Begin again: books, turns, draws and tokens as at the start."""
        self._asked("POST", "/scripted/reset")

    def _asked(self, method: str, path: str) -> dict[str, Any]:
        import http.client  # noqa: PLC0415 - the server itself asks nobody

        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path)
            return msgspec.json.decode(connection.getresponse().read())


@contextlib.contextmanager
def running(
    script: Script | None = None, *, port: int = 0, strict: bool = True
) -> Generator[Upstream, None, None]:
    """A scripted upstream in a process of its own on this machine; it ends with the block.

    Raises:
        UnavailableError: it did not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        yield Upstream(_told(process, _Orders(script or Script(), port, strict)), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


_CHILD: Final = "from daulat.endpoints.scripted.server import child; child()"


class _Orders(msgspec.Struct, frozen=True):
    script: Script
    port: int
    strict: bool


def _told(process: subprocess.Popen[bytes], orders: _Orders) -> str:
    """Give the child its orders; the address that it tells."""
    assert process.stdin is not None  # noqa: S101 - pipes, above
    assert process.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(msgspec.json.encode(orders) + b"\n")
        process.stdin.flush()
    url = process.stdout.readline().decode().strip()
    if not url:
        words = "The scripted upstream did not start: its words are on standard error."
        raise UnavailableError(words)
    return url


def child() -> None:
    """Serve what standard input orders, tell the address, and end when standard input ends."""
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Orders)
    threading.Thread(target=_end_with_input, daemon=True).start()
    serve(
        orders.script,
        port=orders.port,
        strict=orders.strict,
        on_ready=lambda url: print(url, flush=True),
    )


def _end_with_input() -> None:
    # Whoever ordered it holds the other end: nothing is left behind where that process dies.
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
