"""One try at one endpoint: what it says, and how it ended, for the books.

Not here: which endpoint is tried when (`attempts`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal

from daulat.endpoints import Endpoint
from daulat.errors import DaulatError, InternalError, UpstreamAnswerError, UpstreamError
from daulat.flow.metering import NOTHING, Bound, Meter, content, cost
from daulat.flow.patience import patient
from daulat.values.answer import Asked, Done, Event, Metered, Usage
from daulat.values.money import FREE, Price
from daulat.values.plan import Caller, EndpointCard, Step
from daulat.values.request import GenerationRequest

log = logging.getLogger(__name__)

HEDGED, CANCELLED = "hedged", "cancelled"
"""What ends an attempt that is not an error: another was faster, nobody waits."""

Why = Literal["first", "retry", "fallback", "hedge", "continuation", "escalation"]


@dataclass(frozen=True, slots=True)
class Times:
    """By the monotonic clock, in seconds.

    Attributes:
        first: when a part of the answer was there; None: none came.
    """

    begun: float
    first: float | None
    ended: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        number: of the attempt within its exchange, from 0.
        error: its code; None: it answered.
        money: None where nobody said what the model costs.
        why: it was begun.
        times: None where the endpoint was not asked at all.
    """

    number: int
    step: Step
    error: str | None
    usage: Usage
    money: int | None
    why: Why = "first"
    times: Times | None = None


def price_of(card: EndpointCard, step: Step) -> Price | None:
    """What the step's model costs; None where nobody said. What has no offers is this machine's own."""
    offer = card.offers.get(step.model)
    return offer.price if offer else FREE


def billable(error: DaulatError) -> bool:
    """Whether an endpoint may charge for what it did before that error."""
    return isinstance(error, InternalError) or (isinstance(error, UpstreamError) and error.billable)


def defect(endpoint: str) -> InternalError:
    """Log what is being handled, which is no error of ours; the error that a client may see."""
    log.exception("an endpoint failed", extra={"endpoint": endpoint})
    return InternalError(f"{endpoint} failed; the server's log says why.")


class Attempt:
    """Ask once: `prime` first, then `rest`; `cut` and `leave` in any case.

    Attributes:
        outcome: None until it is over.
        told: whoever keeps the books has heard of the outcome.
    """

    def __init__(
        self,
        number: int,
        step: Step,
        endpoint: Endpoint,
        request: GenerationRequest,
        caller: Caller,
        limit: Bound,
        why: Why = "first",
    ) -> None:
        self.number = number
        self.step = step
        self._why: Why = why
        self._begun = time.monotonic()
        self._first: float | None = None
        self.outcome: Outcome | None = None
        self.told = False
        self._request = request
        self._price = price_of(endpoint.card, step)
        self._own = not endpoint.card.offers
        self._meter = Meter(request, limit, own=self._own)
        self._source = endpoint.generate(request, step, caller)
        self._heard = patient(
            step.endpoint, self._source, endpoint.card.patience, stream=request.stream
        )
        self._events = self._judged()
        self._primed: list[Event] = []

    @property
    def primed(self) -> Sequence[Event]:
        """What `prime` has heard and `rest` has not given yet."""
        return self._primed

    async def prime(self, *, whole: bool = False) -> None:
        """Listen until there is a part of the answer to give; to its end where nobody wants a stream.

        Args:
            whole: to its end in any case.

        Raises:
            DaulatError: nothing has been given to anyone, so another attempt may follow.
        """
        async for event in self._events:
            self._primed.append(event)
            if self._request.stream and not whole and content(event):
                return

    async def rest(self) -> AsyncGenerator[Event, None]:
        """All of the answer's events, from the first.

        Raises:
            DaulatError: it broke off.
        """
        primed, self._primed = self._primed, []
        for event in primed:
            yield event
        async for event in self._events:
            yield event

    def cut(self, why: str) -> Outcome:
        """The outcome; an answer that is not over is counted as far as it came."""
        return self.outcome or self._end(why, self._meter.cut())

    async def leave(self) -> None:
        """Let go of the endpoint."""
        # From the outside in: each holds the next.
        for generator in (self._events, self._heard, self._source):
            with contextlib.suppress(Exception):
                await generator.aclose()

    async def _judged(self) -> AsyncGenerator[Event, None]:
        """What the endpoint says, without what is for the books; its failures noted."""
        try:
            async for heard in self._heard:
                self._meter.add(heard)
                if (
                    self._first is None
                    and not isinstance(heard, Asked | Metered)
                    and content(heard)
                ):
                    self._first = time.monotonic()
                if isinstance(heard, Done):
                    usage = heard.usage if self._own else self._meter.reported(heard.usage)
                    self._end(None, usage)
                    yield Done(usage, heard.timings)
                    return
                elif not isinstance(heard, Asked | Metered):
                    yield heard
            raise UpstreamAnswerError(
                f"The answer of {self.step.endpoint} ended too soon. Ask again.", billable=True
            )
        except DaulatError as error:
            self._failed(error)
            raise
        except Exception as error:
            ours = defect(self.step.endpoint)
            self._failed(ours)
            raise ours from error

    def _failed(self, error: DaulatError) -> None:
        # Words that came were made, whatever became of the rest.
        charged = self._meter.said or billable(error)
        self._end(error.code, self._meter.cut() if charged else NOTHING)

    def _end(self, error: str | None, usage: Usage) -> Outcome:
        money = 0 if usage is NOTHING else cost(self._price, usage)
        times = Times(self._begun, self._first, time.monotonic())
        self.outcome = Outcome(self.number, self.step, error, usage, money, self._why, times)
        return self.outcome
