"""The ASGI application: the table of routes and the console's pages inside the shell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from daulat import policy
from daulat.errors import DaulatError
from daulat.flow import Hall
from daulat.server.calls import Call, ClientGone, bearer, check_version, read_json
from daulat.server.errors import error_response, translate
from daulat.server.metrics import Metrics
from daulat.server.openapi import describe
from daulat.server.routes import ROUTES, Route
from daulat.server.shell import Shell, Tracer
from daulat.server.trace import trace_of
from daulat.settings import Server
from daulat.values.plan import Caller


def build_app(
    hall: Hall,
    settings: Server,
    pages: Sequence[BaseRoute] = (),
    gauges: Callable[[], Mapping[str, float]] = dict,
    tracer: Tracer | None = None,
    home: Path | None = None,
) -> ASGIApp:
    """The whole application for one hall.

    Args:
        pages: the console's routes. They are open: a page holds no data, and what it shows it
            asks the guarded routes for, with the key that its reader gives it.
        gauges: reads the numbers named in `metrics.GAUGES`; it may block for a moment.
        tracer: makes spans of the requests; None: nothing does.
        home: the house's folder, for what is kept beside the record; None: there is none.
    """
    metrics = Metrics(gauges, hall.lines, hall.setup.currency)
    description = msgspec.json.encode(describe(ROUTES))

    def entrance(route: Route) -> _Entrance:
        return _Entrance(route, hall, metrics, description, settings.max_body, home)

    entrances = {(route.method, route.path): entrance(route) for route in ROUTES}
    routed = Starlette(
        routes=[
            *(StarletteRoute(path, app, methods=[m]) for (m, path), app in entrances.items()),
            *pages,
        ],
        exception_handlers={HTTPException: _not_routed, DaulatError: _refused},
    )
    routed.router.redirect_slashes = False
    app = _Doors(entrances, routed)
    return Shell(app, host=settings.host, over=metrics.request, tracer=tracer)


class _Doors:
    """Straight to the entrance of a path without parameters; the router knows all others.

    The router and what it wraps around a request take a tenth of the time of one that is passed on.
    """

    def __init__(self, entrances: Mapping[tuple[str, str], _Entrance], routed: ASGIApp) -> None:
        self._entrances = entrances
        self._routed = routed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = (scope.get("method", ""), scope.get("path", ""))
        await self._entrances.get(place, self._routed)(scope, receive, send)


class _Entrance:
    """One route as an ASGI application: the key first, then the body, then the handler."""

    def __init__(
        self,
        route: Route,
        hall: Hall,
        metrics: Metrics,
        description: bytes,
        max_body: int,
        home: Path | None,
    ) -> None:
        self._route = route
        self._hall = hall
        self._metrics = metrics
        self._description = description
        self._max_body = max_body
        self._home = home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace_of(scope).route = self._route.path
        headers = Headers(scope=scope)
        try:
            caller = await self._identify(scope, headers)
            if caller and self._route.scope:
                policy.check_scope(caller, self._route.scope)
            body = b""
            if self._route.request:
                body = await read_json(headers, receive, self._max_body)
            response = await self._route.handler(
                Call(
                    hall=self._hall,
                    metrics=self._metrics,
                    description=self._description,
                    home=self._home,
                    caller=caller,
                    body=body,
                    scope=scope,
                    receive=receive,
                    send=send,
                )
            )
            if response:
                await response(scope, receive, send)
        except ClientGone:
            trace_of(scope).error = "client_gone"

    async def _identify(self, scope: Scope, headers: Headers) -> Caller | None:
        if not self._route.guarded:
            return None
        secret = bearer(headers)
        if self._route.anthropic:
            secret = secret or headers.get("x-api-key")
        caller = await self._hall.identify(secret)
        trace_of(scope).caller = caller.id
        if self._route.anthropic:
            check_version(headers)
        return caller


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, DaulatError)  # noqa: S101 - registered for that class
    trace = trace_of(request.scope)
    trace.fail(error)
    return error_response(error, request.url.path, trace.headers())


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for that class
    ours = translate(error, request.url.path, request.method)
    trace_of(request.scope).error = ours.code
    return error_response(ours, request.url.path, error.headers)
