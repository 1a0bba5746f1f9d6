"""One request with its plan, from the record's opening entry to its closing one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from daulat.endpoints import Endpoint
from daulat.errors import DaulatError, InternalError
from daulat.flow.attempt import Outcome
from daulat.flow.attempts import Attempts
from daulat.flow.auto import Ruling
from daulat.flow.books import Account, ExchangeBooks
from daulat.flow.guarding import Guard, Guarded
from daulat.flow.metering import Bound, bound, longest, prompt_tokens, size
from daulat.flow.restoring import Restoring
from daulat.flow.texts import nameless, texts
from daulat.flow.working import Work
from daulat.record.charges import Refusal
from daulat.record.transcript import Transcript, embedded, moderated, spent
from daulat.values.answer import Done, Embeddings, Event, Moderations, Usage
from daulat.values.money import shown
from daulat.values.plan import THIS_MACHINE, Step
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
    ModerationRequest,
    Request,
)

_CLOSING: set[asyncio.Future[None]] = set()
"""Tasks that nobody awaits: the event loop alone would forget them."""

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R", bound=Request)
Json = Mapping[str, Any]


class Exchange:
    """Ask either for `events`, for `embed`, or for `moderate`, once.

    Args:
        own_size: bytes of all of the request's texts.
        account: whose money it is.
        ruling: of the certificate that it falls under, if it does.
        heard: is told of a whole answer under a certificate, when the record has it.

    Attributes:
        id: the record's name for it.
        created: seconds since 1970.
        data_class: the class of its texts.
    """

    def __init__(
        self,
        exchange_id: str,
        request: Request,
        attempts: Attempts,
        books: ExchangeBooks,
        guard: Guard,
        guarded: Guarded,
        own_size: int,
        endpoints: Mapping[str, Endpoint],
        account: Account,
        ruling: Ruling | None = None,
        heard: Callable[[str, Ruling, str], None] | None = None,
    ) -> None:
        self.id = exchange_id
        self.created = int(time.time())
        self.data_class = guarded.data_class
        self._request = request
        self._attempts = attempts
        self._books = books
        self._guard = guard
        self._guarded = guarded
        self._size = own_size
        self._endpoints = endpoints
        self._currency = account.currency
        self._limited = account.limited
        self._ruling = ruling
        self._heard = heard
        self._closed = False

    @property
    def ruling(self) -> Ruling | None:
        """What the certificate that it falls under says of it; None: it falls under none."""
        return self._ruling

    @property
    def step(self) -> Step:
        """What answers, as far as is known: another may, until a part of the answer has come."""
        return self._attempts.step

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """The attempts that are over."""
        return self._books.outcomes

    @property
    def begun(self) -> int:
        """How many times an endpoint has been asked."""
        return self._attempts.begun

    @property
    def money(self) -> int | None:
        """What it has cost so far, in `values.money`'s amounts; None: nobody knows."""
        return self._books.cost

    @property
    def cost(self) -> str | None:
        """The same for people, such as `0.0125 USD`."""
        return None if self.money is None else f"{shown(self.money)} {self._currency}"

    # --- answers ------------------------------------------------------------------------------------

    async def events(self) -> AsyncGenerator[Event, None]:
        """The answer as it comes. `Done` comes only when the record has it.

        Closing the generator cancels the work, and the record says so.

        Raises:
            DaulatError: whatever ended the answer; before the first event, nothing was answered.
        """
        request = self._request
        assert isinstance(request, ChatRequest | CompletionRequest)  # noqa: S101 - narrows the type
        transcript = Transcript(request)
        status, error = "cancelled", None
        try:
            async with contextlib.aclosing(self._restored()) as events:
                async for event in events:
                    transcript.add(event)
                    if isinstance(event, Done):
                        await self._close(*transcript.closed("ok", None))
                        if self._ruling is not None and self._heard is not None:
                            self._heard(self.id, self._ruling, transcript.text)
                    yield event
        except DaulatError as raised:
            status, error = "error", raised.code
            raise
        except Exception as raised:
            status, error = "error", InternalError.code
            raise self._defect() from raised
        finally:
            if not self._closed:
                await self._close(*transcript.closed(status, error))

    async def embed(self) -> Embeddings:
        """The vectors, when the record has the exchange.

        Raises:
            DaulatError: whatever went wrong.
        """
        request = self._request
        assert isinstance(request, EmbeddingRequest)  # noqa: S101 - narrows the type
        return await self._whole(
            Work(lambda step: self._for(step, request), self.limit, self._may_hear),
            lambda endpoint, step, sent: endpoint.embed(sent, step),
            lambda answer: answer.usage,
            lambda answer, usage: replace(answer, usage=usage),
            embedded,
        )

    async def moderate(self) -> Moderations:
        """The judgements, when the record has the exchange.

        Raises:
            DaulatError: whatever went wrong.
        """
        request = self._request
        assert isinstance(request, ModerationRequest)  # noqa: S101 - narrows the type
        used = Usage(prompt_tokens(request), counted=True)
        return await self._whole(
            Work(lambda step: self._for(step, request), self.limit, self._may_hear),
            lambda endpoint, step, sent: endpoint.moderate(sent, step),
            lambda _: used,
            lambda answer, _: answer,
            moderated,
        )

    async def _restored(self) -> AsyncGenerator[Event, None]:
        """The events with what was replaced put back."""
        restoring: Restoring | None = None
        form = getattr(self._request, "structure", None)
        is_json = form is not None and form.kind == "json"
        work = Work(self._sent, self.limit, self._may_hear)
        async with contextlib.aclosing(self._attempts.events(work)) as events:
            async for event in events:
                if self.step.redacted and restoring is None and self._guarded.redactor:
                    restoring = Restoring(self._guarded.redactor, json=is_json)
                if restoring is None:
                    yield event
                    continue
                for restored in restoring.events(event):
                    yield restored

    async def _whole(
        self,
        work: Work[R],
        call: Callable[[Endpoint, Step, R], Awaitable[T]],
        used: Callable[[T], Usage],
        told: Callable[[T, Usage], T],
        closed: Callable[[T], tuple[Json, Json]],
    ) -> T:
        """An answer that comes in one piece."""
        body: Json = {"status": "cancelled"}
        contents: Json = {}
        try:
            answer = told(*await self._attempts.ask(work, call, used))
            body, contents = closed(answer)
            return answer
        except DaulatError as raised:
            body = {"status": "error", "error": raised.code}
            raise
        except Exception as raised:
            body = {"status": "error", "error": InternalError.code}
            raise self._defect() from raised
        finally:
            await self._close(body, contents)

    # --- what is sent -------------------------------------------------------------------------------

    def most(self, step: Step) -> Bound:
        """The most that an attempt at a step can use, as the step is sent the request."""
        generates = isinstance(self._request, ChatRequest | CompletionRequest)
        return self.limit(step, self._sent(step) if generates else self._for(step, self._request))

    def limit(self, step: Step, request: Request) -> Bound:
        """The most that a request can use at a step."""
        offer = self._endpoints[step.endpoint].card.offers.get(step.model)
        # Placeholders and the words of another endpoint's beginning are not in the client's own texts.
        changed = step.redacted or (isinstance(request, ChatRequest) and request.begun)
        return bound(request, offer, size(texts(request)) if changed else self._size)

    def _sent(self, step: Step) -> GenerationRequest:
        """What a step is sent: redacted where it must be, of a bounded length where a limit holds."""
        request = self._for(step, self._request)
        assert isinstance(request, ChatRequest | CompletionRequest)  # noqa: S101 - narrows the type
        offer = self._endpoints[step.endpoint].card.offers.get(step.model)
        if self._ruling is not None and (needs := self._ruling.listens(step)):
            request = self._heard_out(step, request, needs)
        if not self._limited or offer is None:
            return request
        most = longest(request, offer)
        return replace(request, sampling=replace(request.sampling, max_tokens=most))

    def _heard_out(
        self, step: Step, request: GenerationRequest, needs: frozenset[str]
    ) -> GenerationRequest:
        """With what the router needs, which the client is not told: the probabilities of the answer's tokens,
        unless it asks for these itself, and figures of hidden states."""
        able, sampling = self._endpoints[step.endpoint].card.capabilities, request.sampling
        if "logprob" in needs and "logprobs" in able and sampling.logprobs is None:
            sampling = replace(sampling, logprobs=0)
        if "probe" in needs and "probe" in able:
            sampling = replace(sampling, probe=True)
        return replace(request, sampling=sampling)

    def _for(self, step: Step, request: Any) -> Any:
        if step.redacted:
            assert self._guarded.replaced is not None  # noqa: S101 - the verdict comes with it
            request = self._guarded.replaced
        return request if step.place == THIS_MACHINE else nameless(request)

    async def _may_hear(self, step: Step, text: str) -> bool:
        return await self._guard.may_hear(self._guarded, step, text)

    def forsake(self, writing: asyncio.Future[Any]) -> None:
        """Nobody waits for it any more, and now it is (or is not) in the record: close it there."""
        if writing.cancelled() or writing.exception() or isinstance(writing.result(), Refusal):
            return
        _CLOSING.add(task := asyncio.ensure_future(self._close({"status": "cancelled"}, {})))
        task.add_done_callback(_CLOSING.discard)

    # --- the end ------------------------------------------------------------------------------------

    async def _close(self, body: Json, contents: Json) -> None:
        self._closed = True
        self._attempts.end()
        if self._ruling is not None:
            self._ruling.answered(self.step)
            body = {**body, "auto": self._ruling.told()}

        def closing() -> tuple[Json, Json]:
            told = spent(self._books.outcomes, self._attempts.continued, self._currency)
            return {**body, **told}, contents

        # What its client may ask for by its id, of any server, must be in the database by then.
        ahead = not getattr(self._request, "kept", None)
        # Shielded: a client that goes away must not keep its exchange from being closed.
        await asyncio.shield(self._books.close(closing, ahead=ahead))

    def _defect(self) -> InternalError:
        log.exception("an answer failed", extra={"exchange": self.id})
        return InternalError("The answer failed; the server's log says why.")
