"""An endpoint elsewhere: one call at a time, by its dialect, within its limits.

One try for each call. Not here: whether it is asked, trying again, time-outs of an answer (`flow`), the
protocol (a `Dialect`), keys (an `Access`), sockets (`net.calls`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace
from typing import Final, TypeVar

from daulat.endpoints.remote.access import Access
from daulat.endpoints.remote.dialect import Call, Dialect, Reader
from daulat.endpoints.remote.sse import Events
from daulat.endpoints.remote.terms import shown
from daulat.errors import UpstreamAnswerError, UpstreamBusyError, UpstreamError
from daulat.net import tracing
from daulat.net.calls import MAX_BODY, Client, Reply
from daulat.settings import Endpoint as Settings
from daulat.values.answer import Asked, Done, Embeddings, Heard, Metered, Moderations, Timings
from daulat.values.plan import Caller, EndpointCard, Offer, Step
from daulat.values.request import EmbeddingRequest, GenerationRequest, ModerationRequest

T = TypeVar("T")

LONGEST_WAIT: Final = 3600.0
_MAX_ERROR: Final = 1 << 20
_DRAIN_SECONDS: Final = 0.25
"""For the last bytes behind an answer's end, after which its connection can serve the next one."""


class RemoteEndpoint:
    """One endpoint of daulat.toml.

    Attributes:
        url: where its calls go.
    """

    def __init__(
        self,
        card: EndpointCard,
        dialect: Dialect,
        client: Client,
        access: Access,
        settings: Settings,
    ) -> None:
        self._card = card
        self._dialect = dialect
        self.url = client.url
        self._client = client
        self._access = access
        self._headers = {name.lower(): value for name, value in settings.headers.items()}
        self._gate = Gate(card.name, settings)

    def __repr__(self) -> str:
        return f"RemoteEndpoint({self._card.name})"

    @property
    def card(self) -> EndpointCard:
        """What is known without asking."""
        return self._card

    async def generate(
        self, request: GenerationRequest, step: Step, caller: Caller
    ) -> AsyncGenerator[Heard, None]:
        """Answer; closing the generator drops the connection at once.

        Raises:
            UnsupportedFieldError: the protocol has no words for a part of the request.
            UpstreamError: it did not answer as it should.
        """
        call = self._dialect.generate(request, self._offer(step))
        clock = _Clock()
        async with self._gate.place():
            clock.start()
            yield Asked()
            reply = await self._asked(call)
            try:
                answer = await self._answer(request, reply)
                while heard := await answer.more():
                    clock.heard(heard)
                    for one in heard:
                        if isinstance(one, Done):
                            await answer.drain()
                            yield Done(one.usage, clock.timings())
                            return
                        yield one
            finally:
                reply.close()

    async def embed(self, request: EmbeddingRequest, step: Step) -> Embeddings:
        """One vector per input.

        Raises:
            UpstreamError: as `generate`.
        """
        clock = _Clock()
        call = self._dialect.embed(request, self._offer(step))
        found = await self._whole(call, clock, lambda body: self._dialect.embeddings(request, body))
        return replace(found, timings=clock.timings())

    async def moderate(self, request: ModerationRequest, step: Step) -> Moderations:
        """One judgement per input.

        Raises:
            UpstreamError: as `generate`.
        """
        call = self._dialect.moderate(request, self._offer(step))
        return await self._whole(
            call, _Clock(), lambda body: self._dialect.moderations(request, body)
        )

    async def models(self) -> bytes:
        """What the endpoint says to `GET /models`, where it has that.

        Raises:
            UpstreamError: as `generate`.
        """
        return await self._whole(Call("/models", b""), _Clock(), lambda body: body, get=True)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    def _offer(self, step: Step) -> Offer:
        known = self._card.offers.get(step.model)
        if known is None:
            return Offer(step.model, step.upstream or step.model)
        if step.upstream and step.upstream != known.upstream:
            return replace(known, upstream=step.upstream)
        return known

    async def _whole(
        self, call: Call, clock: _Clock, made: Callable[[bytes], T], *, get: bool = False
    ) -> T:
        async with self._gate.place():
            clock.start()
            reply = await self._asked(call, get=get)
            try:
                self._check_json(reply)
                body = await reply.body()
            finally:
                reply.close()
            clock.all_at_once()
            return made(body)

    async def _asked(self, call: Call, *, get: bool = False) -> Reply:
        """An answer of status 200; a key that is refused is looked up again, once."""
        for last in (False, True):
            own = {**self._headers, **call.headers, **await self._access.headers()}
            headers = {**own, **tracing.headers()}
            reply = await self._client.send(call.path, None if get else call.body, headers)
            if 200 <= reply.status < 300:
                return reply
            try:
                if reply.status != 401 or last or not await self._access.refused():
                    raise await self._error(reply)
            finally:
                reply.close()
        raise AssertionError("the second try returns or raises")

    async def _error(self, reply: Reply) -> UpstreamError:
        """What its status means. The error's own text is not waited for long, nor read far."""
        body = b""
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(5.0):
                body = await reply.body(_MAX_ERROR)
        if 300 <= reply.status < 400:
            return UpstreamAnswerError(
                f"The endpoint {self._card.name} sends us elsewhere ({reply.status}), and nothing is "
                "sent there. Check its url in daulat.toml."
            )
        error = self._dialect.error(reply.status, reply.headers, body)
        wait = error.retry_after
        if wait is not None:
            error.retry_after = min(max(wait, 0.0), LONGEST_WAIT) if math.isfinite(wait) else None
        return error

    async def _answer(self, request: GenerationRequest, reply: Reply) -> _Answer:
        """A stream is heard as it comes; what says that it is JSON came in one piece."""
        if reply.media_type == "text/event-stream":
            return _Answer(reply, self._dialect.reader(request))
        self._check_json(reply)
        return _Answer(reply, None, self._dialect.whole(request, await reply.body()))

    def _check_json(self, reply: Reply) -> None:
        encoding = reply.headers.get("content-encoding", "identity")
        if not _is_json(reply.media_type) or encoding != "identity":
            kind = shown(reply.media_type)[:64] or "nothing that is known"
            raise UpstreamAnswerError(
                f"The endpoint {self._card.name} answered with {kind} and not with JSON. "
                "Check its url in daulat.toml.",
                billable=True,
            )


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


class _Answer:
    """What comes, in batches: those of one read together. After an error nothing more comes."""

    def __init__(self, reply: Reply, reader: Reader | None, whole: Iterable[Heard] = ()) -> None:
        self._reply = reply
        self._reader = reader
        self._error: UpstreamError | None = None
        self._whole = self._gathered(whole)
        self._events = Events()
        self._left = MAX_BODY
        self._ended = False

    async def more(self) -> list[Heard]:
        """The next events, at least one; they end with `Done`.

        Raises:
            UpstreamError: the connection broke, or what came is no answer. What came before it is
                heard first.
        """
        if self._reader is None:
            whole, self._whole = self._whole, []
            if whole or self._error is None:
                return whole
            raise self._error
        while self._error is None:
            data = b"" if self._ended else await self._reply.read()
            heard = self._heard(self._reader, data)
            if heard:
                return heard
        raise self._error

    def _gathered(self, whole: Iterable[Heard]) -> list[Heard]:
        """An answer in one piece; of one that cannot be used, what it cost."""
        heard: list[Heard] = []
        try:
            heard.extend(whole)
        except UpstreamError as error:
            self._error = error
            return [one for one in heard if isinstance(one, Metered)]
        return heard

    async def drain(self) -> None:
        """Read to the end of the stream, if that is near."""
        if self._reader is not None and not self._ended:
            with contextlib.suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    while await self._reply.read():
                        pass

    def _heard(self, reader: Reader, data: bytes) -> list[Heard]:
        heard: list[Heard] = []
        try:
            self._left -= len(data)
            if self._left < 0:
                raise UpstreamAnswerError(
                    f"The endpoint answered with more than {MAX_BODY} bytes.", billable=True
                )
            for event in self._events.feed(data) if data else self._events.end():
                heard += reader.feed(event)
                if heard and isinstance(heard[-1], Done):
                    return heard
            self._events.check()
            if not data:
                self._ended = True
                heard += reader.end()
                if not heard or not isinstance(heard[-1], Done):
                    raise UpstreamAnswerError("The answer has no end.", billable=True)
        except UpstreamError as error:
            self._error = error
        return heard


class _Clock:
    """The times of one call, by the monotonic clock."""

    def __init__(self) -> None:
        self._entered = self._started = time.monotonic()
        self._first = self._last = 0.0

    def start(self) -> None:
        """The call has its place."""
        self._started = time.monotonic()

    def heard(self, batch: list[Heard]) -> None:
        """Something of the answer came."""
        if not all(isinstance(one, Metered | Done) for one in batch):
            self._last = time.monotonic()
            self._first = self._first or self._last

    def all_at_once(self) -> None:
        """The answer came in one piece."""
        self._first = self._last = time.monotonic()

    def timings(self) -> Timings:
        """Until now."""
        first = self._first or time.monotonic()
        last = max(self._last, first)
        return Timings(self._started - self._entered, first - self._started, last - first)


class Gate:
    """The endpoint's limits: requests at once, and requests in any minute. Beyond them a request waits,
    as long as connecting may take."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._patience = settings.connect_seconds
        self._places = asyncio.Semaphore(settings.concurrency)
        self._a_minute = settings.requests_per_minute
        self._begun: deque[float] = deque()

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """A place for one request.

        Raises:
            UpstreamBusyError: there was none in time.
        """
        until = time.monotonic() + self._patience
        if self._places.locked():
            try:
                async with asyncio.timeout(self._patience):
                    await self._places.acquire()
            except TimeoutError:
                raise UpstreamBusyError(
                    f"The endpoint {self._name} answers as many requests as it may at once. "
                    "Try again later."
                ) from None
        else:
            await self._places.acquire()
        try:
            if self._a_minute:
                await self._turn(until)
            yield
        finally:
            self._places.release()

    async def _turn(self, until: float) -> None:
        """Wait until the last minute has room for one more."""
        begun = self._begun
        while True:
            now = time.monotonic()
            while begun and begun[0] <= now - 60.0:
                begun.popleft()
            if len(begun) < self._a_minute:
                begun.append(now)
                return
            wait = begun[0] + 60.0 - now
            if now + wait > until:
                raise UpstreamBusyError(
                    f"The endpoint {self._name} has had its {self._a_minute} requests of this minute. "
                    "Try again later.",
                    retry_after=wait,
                )
            await asyncio.sleep(wait)
