"""Around every request: who may speak to this host, one id, one log line, one count, and no escape.

What happens inside raises errors of our tree; anything else that comes up here is a defect: it is
logged with its trace under the request's id, and the client learns the id and nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daulat.errors import DaulatError, InternalError, PermissionDeniedError, UnavailableError
from daulat.net import tracing
from daulat.server import logs
from daulat.server.errors import error_response, is_anthropic
from daulat.server.trace import KEY, Trace

CLIENT_GONE = 499  # nginx's number for "closed by the client"; it is logged and counted, never sent

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not bound to


class Tracer(Protocol):
    """What makes spans of requests."""

    def begin(self, trace: Trace, traceparent: str) -> None:
        """A request has come, with that header; empty: without it."""
        ...

    def over(self, trace: Trace) -> None:
        """A request is over."""
        ...


class Shell:
    """The outermost layer of the application.

    Args:
        host: what the server is bound to.
        over: called with every finished request's trace.
        tracer: makes spans of the requests; None: nothing does.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        over: Callable[[Trace], None],
        tracer: Tracer | None = None,
    ) -> None:
        self._app = app
        self._over = over
        self._tracer = tracer
        self._names = None if host in _EVERYWHERE else frozenset({*_LOOPBACK, host.lower()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = Trace(method=scope["method"])
        # Anthropic's SDK looks for the second one.
        names = ("x-request-id", *(("request-id",) if is_anthropic(scope["path"]) else ()))
        scope[KEY] = trace
        if self._tracer:
            self._tracer.begin(trace, Headers(scope=scope).get(tracing.HEADER, ""))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                trace.status = message["status"]
                for name in names:
                    MutableHeaders(scope=message)[name] = trace.id
            await send(message)

        try:
            await self._guarded(scope, receive, sending, trace)
        except asyncio.CancelledError:
            # Only the end of the server's patience cancels from outside; the task ends here anyway.
            await self._refuse(shutting_down(), scope, receive, sending, trace)
        finally:
            trace.status = trace.status or CLIENT_GONE
            self._over(trace)
            if self._tracer:
                self._tracer.over(trace)
            logs.request_line(trace)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        try:
            self._check_origin(Headers(scope=scope))
            await self._app(scope, receive, send)
        except DaulatError as error:
            await self._refuse(error, scope, receive, send, trace)
        except Exception:
            await self._refuse(defect(trace), scope, receive, send, trace)

    async def _refuse(
        self, error: DaulatError, scope: Scope, receive: Receive, send: Send, trace: Trace
    ) -> None:
        trace.fail(error)
        if trace.status == 0:
            await error_response(error, scope["path"], trace.headers())(scope, receive, send)

    def _check_origin(self, headers: Headers) -> None:
        """Refuse pages of other sites, also by a host name of theirs (DNS rebinding)."""
        host = _name(headers.get("host", ""))
        if self._names is not None and host not in self._names:
            raise PermissionDeniedError(
                "The Host header names a host that this server does not serve: use the address "
                "that it was started with, or start it with --host."
            )
        origin = headers.get("origin")
        if origin is None:
            return
        if _name(urlsplit(origin).netloc) not in (self._names or {host}):
            raise PermissionDeniedError(
                "Pages of other sites may not call this server: call it from your own program."
            )


def defect(trace: Trace) -> InternalError:
    """Log what is being handled with its trace; the error that the client may see."""
    trace.error = InternalError.code
    logs.logger.exception("defect", extra={"request": trace.id})
    return InternalError(
        f"Something failed inside the server. Its log has the details under request {trace.id}."
    )


def shutting_down() -> UnavailableError:
    """What a request is told that cannot be ended in time."""
    return UnavailableError("The server is shutting down: ask again later.")


def _name(netloc: str) -> str:
    """`[::1]:8000` -> `::1`; `LocalHost:80` -> `localhost`."""
    host = netloc.rpartition("@")[2].strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") < 2 else host
