"""From an open exchange to the bytes of its answer: whole, or as server-sent events.

Nothing is sent before the first event is there, so that an early error keeps its status. After that
an error is an event of its own, and the stream ends without its dialect's end: a cut answer never looks
whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from starlette.responses import Response

from daulat.errors import DaulatError, InternalError
from daulat.flow import Exchange
from daulat.server.calls import Call, ClientGone, Delivery
from daulat.server.shapes.base import Choice, Shape, encode
from daulat.server.shell import defect, shutting_down
from daulat.values.answer import Done, Event

_LAST_WORD_SECONDS = 1.0  # for telling a client that its stream is cut


async def answer_whole(call: Call, exchange: Exchange, shape: Shape) -> Response:
    """Gather the events into one answer."""
    choices = [Choice() for _ in range(shape.choices)]
    async with events_of(call, exchange) as events:
        async for event in events:
            if isinstance(event, Done):
                return json_response(call, shape.whole(choices, event))
            choices[event.choice].add(event)
    raise InternalError("The answer ended before it was complete.")


async def answer_stream(call: Call, exchange: Exchange, shape: Shape) -> None:
    """Send each event as it comes."""
    async with events_of(call, exchange) as events:
        first = await anext(events)
        with contextlib.closing(Delivery(call.send)) as client:
            try:
                await _start(call, client)
                await _forward(client, _behind(first, events), shape)
            except asyncio.CancelledError:
                await _last_word(call, client, shape, shutting_down())
                raise
            except DaulatError as error:
                await _last_word(call, client, shape, error)
            except ClientGone:
                raise
            except Exception:
                await _last_word(call, client, shape, defect(call.trace))


async def _behind(first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in rest:
        yield event


async def _forward(client: Delivery, events: AsyncIterator[Event], shape: Shape) -> None:
    said = shape.opening()
    async for event in events:
        if isinstance(event, Done):
            await _write(client, said + shape.closing(event), more=False)
            return
        said += shape.event(event)
        if said:
            await _write(client, said)
            said = b""
    raise InternalError("The answer ended before it was complete.")


@contextlib.asynccontextmanager
async def events_of(call: Call, exchange: Exchange) -> AsyncGenerator[AsyncIterator[Event]]:
    """The exchange's events, noted in the trace; closed (and so cancelled) on the way out."""
    source = exchange.events()
    noted = _noted(call, exchange, source)
    try:
        yield noted
    finally:
        await noted.aclose()
        await source.aclose()


async def _noted(
    call: Call, exchange: Exchange, source: AsyncIterator[Event]
) -> AsyncGenerator[Event, None]:
    trace = call.trace
    async for event in source:
        if trace.first_event is None:
            trace.first_event = time.monotonic()
            noted(call, exchange)
        if isinstance(event, Done):
            trace.usage, trace.cost = event.usage, exchange.cost
            noted(call, exchange)
        yield event


def noted(call: Call, exchange: Exchange) -> None:
    """What is known by now of who answers."""
    trace = call.trace
    trace.model = exchange.step.model_id
    trace.outcomes = exchange.outcomes


async def _start(call: Call, client: Delivery) -> None:
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        **call.trace.headers(),
    }
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await client.deliver({"type": "http.response.start", "status": 200, "headers": raw})


async def _write(client: Delivery, data: bytes, *, more: bool = True) -> None:
    await client.deliver({"type": "http.response.body", "body": data, "more_body": more})


async def _last_word(call: Call, client: Delivery, shape: Shape, error: DaulatError) -> None:
    call.trace.error = error.code
    with contextlib.suppress(ClientGone, TimeoutError):
        async with asyncio.timeout(_LAST_WORD_SECONDS):
            await _write(client, shape.failed(error), more=False)


def json_response(call: Call, body: object, more: Mapping[str, str] | None = None) -> Response:
    """A JSON answer with the headers of its exchange, where there is one."""
    headers = {"cache-control": "no-store", **call.trace.headers(), **(more or {})}
    return Response(encode(body), headers=headers, media_type="application/json")
