"""Run the application on a socket: uvicorn with uvloop and httptools, and an orderly end.

On SIGTERM or SIGINT nothing new is accepted, running answers get `GRACE_SECONDS` to end, then they
are cut (and recorded as such). Requests are logged by `logs`, not by uvicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import uvicorn
from starlette.routing import BaseRoute

from daulat.engine.runner import Engine
from daulat.errors import UnavailableError
from daulat.house import House
from daulat.server.app import build_app
from daulat.server.shell import Tracer
from daulat.settings import Settings

GRACE_SECONDS = 10
_CUT_SECONDS = 5.0  # for cut answers to be recorded
_BACKLOG = 2048
_FILES = 65_536
"""Each answer that is passed on holds two connections; the usual limit of a shell is 1,024 files."""

OpenHouse = Callable[[], AbstractAsyncContextManager[House]]
Ready = Callable[[str], None]


def serve(
    open_house: OpenHouse,
    settings: Settings,
    pages: Sequence[BaseRoute] = (),
    on_ready: Ready | None = None,
) -> None:
    """Serve until told to stop.

    Args:
        open_house: opens what answers; it is closed after the last answer.
        pages: the console's routes.
        on_ready: called once with the address, for example `http://127.0.0.1:8000`, when it
        answers.

    Raises:
        UnavailableError: the address cannot be had.
        DaulatError: the house cannot be opened.
    """
    _allow_files()
    with (
        contextlib.closing(bind(settings.server.host, settings.server.port)) as listener,
        asyncio.Runner(loop_factory=_loop_factory) as runner,
    ):
        runner.run(_serve(listener, open_house, settings, pages, on_ready))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        UnavailableError: taken, not ours, or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UnavailableError(f"There is no address `{host}`: give another --host.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise UnavailableError(_why(error, host, port)) from error
    return listener


def _allow_files() -> None:
    """Open as many files as the system lets this process, without asking for more than it ever needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def address_of(listener: socket.socket) -> str:
    """The URL under which the socket is reached from this machine."""
    bound: tuple[str, int] = listener.getsockname()[:2]
    host, port = bound
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken: stop what uses it, or give another --port."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"Port {port} may not be opened by this user: give a --port above 1023."
    return f"Cannot listen on {host} port {port}: give another --host or --port."


async def _serve(
    listener: socket.socket,
    open_house: OpenHouse,
    settings: Settings,
    pages: Sequence[BaseRoute],
    on_ready: Ready | None,
) -> None:
    async with open_house() as house, telemetry(settings) as tracer:
        config = uvicorn.Config(
            build_app(
                house.hall, settings.server, pages, lambda: gauges(house), tracer, settings.home
            ),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = _Server(config, lambda: on_ready and on_ready(address_of(listener)))
        await server.serve(sockets=[listener])
        await server.wait_for_the_cut()


@contextlib.asynccontextmanager
async def telemetry(settings: Settings) -> AsyncGenerator[Tracer | None]:
    """What makes spans, where there is a collector for them. Without one nothing is imported.

    Raises:
        SettingsError: [telemetry] cannot be followed.
    """
    if not settings.telemetry.url:
        yield None
        return
    from daulat.server.telemetry import Telemetry  # noqa: PLC0415

    made = Telemetry(settings)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.close)


def gauges(house: House) -> Mapping[str, float]:
    """The numbers of `metrics.GAUGES`."""
    loaded = house.pool.loaded
    engines = [model.engine for model in loaded if isinstance(model.engine, Engine)]
    sequence, _ = house.record.head()
    return {
        "running": sum(engine.running for engine in engines),
        "waiting": sum(engine.waiting for engine in engines),
        "loaded_models": len(loaded),
        "loaded_adapters": len(house.pool.adapters),
        "record_head": sequence,
    }


class _Server(uvicorn.Server):
    """uvicorn's server with our signals, a word when it is ready, and patience at the end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    async def wait_for_the_cut(self) -> None:
        """Answers that were cut still have to be closed in the record."""
        tasks = set(self.server_state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_CUT_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # uvicorn's own way raises the signal again at the end: the house would not be closed.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        logging.getLogger("daulat.server").info("uvloop is not here: the standard loop is used")
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
