"""A plan carried out: retries, circuit breakers, fallbacks, hedges, and answers that go on elsewhere.

Until a part of the answer has been given, a failure is followed by another attempt and nobody sees it. After
that the answer goes on at an endpoint that can continue it, or ends with an error: a cut answer never looks
whole. Not here: one attempt (`attempt`), what may be asked at all (`policy`), the order (`route`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from daulat.endpoints import Endpoint
from daulat.errors import (
    BusyError,
    DaulatError,
    InternalError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.flow.attempt import NOTHING, Attempt, Outcome, Times, Why, price_of
from daulat.flow.breakers import Breakers
from daulat.flow.metering import Bound, cost
from daulat.net import tracing
from daulat.values.answer import CallPiece, Done, Event, Finish, Piece, Usage
from daulat.values.plan import Caller, Plan, Step
from daulat.values.request import ChatRequest, GenerationRequest
from daulat.values.tokens import counted

T = TypeVar("T")

LONGEST_WAIT = 10.0
"""Seconds; who asks for more is not waited for."""
_FIRST_BACKOFF = 0.25
HEDGED, CANCELLED, RESTING = "hedged", "cancelled", "left_alone"


class Books(Protocol):
    """What an exchange tells of its attempts."""

    async def next(self, number: int, step: Step, limit: Bound) -> None:
        """Another attempt begins: what the earlier ones cost is booked, and this one's most reserved.

        Raises:
            LimitError, BudgetError: it is not covered.
        """
        ...

    def ended(self, outcome: Outcome) -> None:
        """An attempt is over."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of each step.

    Attributes:
        request: what a step is sent, redacted where it must be.
        limit: the most that a request can use at a step.
    """

    request: Callable[[Step], GenerationRequest]
    limit: Callable[[Step, GenerationRequest], Bound]


class Attempts:
    """Carries out one plan.

    Attributes:
        first: the one that is asked first if all are in good health.
        step: the one that answers, as far as is known.
        continued: for each time that the answer went on elsewhere, after how many characters and where.
        begun: how many times an endpoint has been asked.
    """

    def __init__(
        self,
        plan: Plan,
        endpoints: Mapping[str, Endpoint],
        breakers: Breakers,
        caller: Caller,
        books: Books,
    ) -> None:
        self.first = plan.steps[0]
        self.step = self.first
        self.continued: list[tuple[int, Step]] = []
        self.begun = 0
        self._plan = plan
        self._endpoints = endpoints
        self._breakers = breakers
        self._caller = caller
        self._books = books
        self._number = 0

    # --- answers that come as events ----------------------------------------------------------------

    async def events(self, work: Work) -> AsyncGenerator[Event, None]:
        """The answer; ended by `Done`.

        Raises:
            DaulatError: no step answered, or the answer broke off and nobody could go on with it.
        """
        given = _Given()
        attempt: Attempt | None = await self._first(work)
        while attempt is not None:
            self.step, following = attempt.step, None
            try:
                async for event in attempt.rest():
                    given.add(event)
                    if isinstance(event, Done):
                        # The books are closed before anyone hears that the answer is whole.
                        self._note(attempt)
                        yield Done(given.whole(event.usage), event.timings)
                    else:
                        yield event
                self._breakers.answered(_line(attempt.step))
            except DaulatError as error:
                self._failed(attempt.step, error)
                following = await self._continued(work, given, attempt.step, error)
                if following is None:
                    raise
                given.cut(attempt.outcome)
                self.continued.append((len(given.text), following.step))
            finally:
                await self._left(attempt, CANCELLED)
            attempt = following

    async def _first(self, work: Work) -> Attempt:
        """The first attempt that has something to say."""
        steps = self._askable()
        if self._plan.hedge > 0 and len(steps) > 1:
            return await self._hedged(steps, work)
        errors: list[DaulatError] = []
        for step in steps:
            try:
                return await self._lane(step, work, self._why(step))
            except DaulatError as error:
                errors.append(error)
                if not _elsewhere(error):
                    break
        raise _verdict(errors)

    async def _hedged(self, steps: Sequence[Step], work: Work) -> Attempt:
        """Each step begins when those before it have said nothing for a while, or have failed."""
        waiting = list(steps)
        lanes: set[asyncio.Task[Attempt]] = set()
        errors: list[DaulatError] = []
        try:
            while waiting or lanes:
                if waiting:
                    step = waiting.pop(0)
                    why = "hedge" if lanes else self._why(step)
                    lanes.add(asyncio.create_task(self._lane(step, work, why)))
                timeout = self._plan.hedge if waiting else None
                done, _ = await asyncio.wait(
                    lanes, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                for lane in done:
                    lanes.discard(lane)
                    error = lane.exception()
                    if error is None:
                        return lane.result()
                    if not isinstance(error, DaulatError):
                        raise error
                    errors.append(error)
            raise _verdict(errors)
        finally:
            await self._drop(lanes)

    async def _drop(self, lanes: set[asyncio.Task[Attempt]]) -> None:
        """End the lanes that lost; one may have won in the same moment."""
        for lane in lanes:
            lane.cancel()
        for ended in await asyncio.gather(*lanes, return_exceptions=True):
            if isinstance(ended, Attempt):
                await self._left(ended, HEDGED)

    async def _lane(self, step: Step, work: Work, why: Why) -> Attempt:
        """One step with its retries."""
        tries = 0
        while True:
            attempt = await self._attempt(step, work, why if tries == 0 else "retry")
            try:
                await attempt.prime()
                return attempt
            except DaulatError as error:
                await self._left(attempt, error.code)
                self._failed(step, error)
                wait = self._wait(step, error, tries)
                if wait is None:
                    raise
            except BaseException:
                await self._left(attempt, HEDGED if self._plan.hedge > 0 else CANCELLED)
                raise
            tries += 1
            await asyncio.sleep(wait)

    def _why(self, step: Step) -> Why:
        return "first" if step is self.first else "fallback"

    async def _attempt(self, step: Step, work: Work, why: Why) -> Attempt:
        request = work.request(step)
        limit = work.limit(step, request)
        number = await self._begin(step, limit)
        endpoint = self._endpoints[step.endpoint]
        return Attempt(number, step, endpoint, request, self._caller, limit, why)

    async def _continued(
        self, work: Work, given: _Given, cut: Step, error: DaulatError
    ) -> Attempt | None:
        """An attempt that goes on where another was cut; None where there is none."""
        request = work.request(cut)
        if not given.text or not given.plain or not _continuable(request):
            return None
        following = Work(lambda step: _going_on(work.request(step), given.text), work.limit)
        for step in self._continuing(cut, error):
            try:
                return await self._lane(step, following, "continuation")
            except DaulatError:
                continue
        return None

    def _continuing(self, cut: Step, error: DaulatError) -> list[Step]:
        """The steps that can go on: those behind the one that was cut, then that one itself."""
        place = self._plan.steps.index(cut)
        again = [cut] if isinstance(error, UpstreamError) and error.again else []
        return [
            step
            for step in [*self._plan.steps[place + 1 :], *self._plan.steps[:place], *again]
            if "continue" in self._endpoints[step.endpoint].card.capabilities
            # What is put back in place of placeholders here would be sent there as it is.
            and step.redacted == cut.redacted
        ]

    # --- answers that come in one piece -------------------------------------------------------------

    async def ask(
        self,
        call: Callable[[Endpoint, Step], Awaitable[T]],
        used: Callable[[T], Usage],
        limit: Callable[[Step], Bound],
    ) -> T:
        """One call to the first step that answers it.

        Args:
            used: what the answer says it used.

        Raises:
            DaulatError: no step answered.
        """
        errors: list[DaulatError] = []
        for step in self._askable():
            tries = 0
            while True:
                number = await self._begin(step, limit(step))
                why: Why = self._why(step) if tries == 0 else "retry"
                begun = time.monotonic()
                try:
                    answer = await self._asked(call, step)
                except DaulatError as error:
                    times = Times(begun, None, time.monotonic())
                    self._books.ended(Outcome(number, step, error.code, NOTHING, 0, why, times))
                    self._failed(step, error)
                    wait = self._wait(step, error, tries)
                    if wait is None:
                        errors.append(error)
                        break
                    tries += 1
                    await asyncio.sleep(wait)
                else:
                    self.step = step
                    self._breakers.answered(_line(step))
                    usage = used(answer)
                    price = price_of(self._endpoints[step.endpoint].card, step)
                    money, now = cost(price, usage), time.monotonic()
                    times = Times(begun, now, now)
                    self._books.ended(Outcome(number, step, None, usage, money, why, times))
                    return answer
            if not _elsewhere(errors[-1]):
                break
        raise _verdict(errors)

    async def _asked(self, call: Callable[[Endpoint, Step], Awaitable[T]], step: Step) -> T:
        endpoint = self._endpoints[step.endpoint]
        total = endpoint.card.patience.total
        try:
            async with asyncio.timeout(total if total < float("inf") else None):
                return await call(endpoint, step)
        except TimeoutError:
            raise UpstreamUnavailableError(
                f"The endpoint {step.endpoint} took longer than {total:g} s. Try again."
            ) from None

    # --- health, waiting, books ---------------------------------------------------------------------

    def _askable(self) -> list[Step]:
        """The steps whose endpoints are not being left alone.

        Raises:
            UpstreamUnavailableError: all are.
        """
        now = time.monotonic()
        waits = [(self._breakers.waits(_line(step), now), step) for step in self._plan.steps]
        steps = [step for wait, step in waits if wait == 0]
        if not steps:
            soonest = min(wait for wait, _ in waits)
            raise UpstreamUnavailableError(
                f"{_names(self._plan.steps)} failed several times in a row and will be asked again in "
                f"{soonest:.0f} s. `daulat endpoints test` says what is wrong.",
                retry_after=soonest,
            )
        return steps

    async def _begin(self, step: Step, limit: Bound) -> int:
        if self._number == 0 and step != self.first:
            # What was set aside for the first step is given back: it is being left alone.
            self._books.ended(Outcome(0, self.first, RESTING, NOTHING, 0))
            self._number = 1
        number, self._number = self._number, self._number + 1
        if number:
            await self._books.next(number, step, limit)
        self._breakers.asked(_line(step), time.monotonic())
        self.begun += 1
        tracing.attempt(number)
        return number

    async def _left(self, attempt: Attempt, why: str) -> None:
        if attempt.outcome is None:
            self._breakers.left(_line(attempt.step))
        await attempt.leave(why)
        self._note(attempt)

    def _note(self, attempt: Attempt) -> None:
        if attempt.outcome is not None:
            self._books.ended(attempt.outcome)

    def _failed(self, step: Step, error: DaulatError) -> None:
        now = time.monotonic()
        match error:
            case UpstreamRequestError():
                self._breakers.answered(_line(step))
            case UpstreamBusyError():
                self._breakers.rests(_line(step), now, error.retry_after or 0.0)
            case UpstreamError() | InternalError():
                self._breakers.failed(_line(step), now)
            case _:
                self._breakers.left(_line(step))

    def _wait(self, step: Step, error: DaulatError, tries: int) -> float | None:
        """Seconds until the same endpoint is asked again; None: it is not."""
        retries = self._endpoints[step.endpoint].card.patience.retries
        if not isinstance(error, UpstreamError) or not error.again or tries >= retries:
            return None
        backoff = _FIRST_BACKOFF * 2.0**tries * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
        wait = max(backoff, error.retry_after or 0.0)
        others = len(self._plan.steps) > 1
        return wait if wait <= (1.0 if others else LONGEST_WAIT) else None


class _Given:
    """What a client has got of an answer.

    Attributes:
        text: as the endpoints said it.
        plain: nothing but text of one choice that is not finished.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.plain = True
        self._cut: list[Usage] = []

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def add(self, event: Event) -> None:
        match event:
            case Piece(choice=0, kind="text"):
                self._parts.append(event.text)
            case Piece() | CallPiece() | Finish():
                self.plain = False
            case _:
                pass

    def cut(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._cut.append(outcome.usage)

    def whole(self, last: Usage) -> Usage:
        """The usage of an answer that several endpoints gave: the prompt once, all of the words."""
        if not self._cut:
            return last
        words = sum(usage.completion_tokens for usage in self._cut)
        return Usage(self._cut[0].prompt_tokens, words + last.completion_tokens, counted=True)


def _continuable(request: GenerationRequest) -> bool:
    return (
        isinstance(request, ChatRequest)
        and request.sampling.n == 1
        and request.sampling.logprobs is None
        and request.structure is None
        and request.tools is None
    )


def _going_on(request: GenerationRequest, text: str) -> GenerationRequest:
    assert isinstance(request, ChatRequest)  # noqa: S101 - `_continuable` has seen to that
    most = request.sampling.max_tokens
    if most is not None:
        most = max(1, most - counted(text))
    return replace(request, begun=text, sampling=replace(request.sampling, max_tokens=most))


def _elsewhere(error: DaulatError) -> bool:
    """Whether another endpoint may answer what this one did not."""
    return not isinstance(error, UpstreamError) or error.elsewhere


def _verdict(errors: Sequence[DaulatError]) -> DaulatError:
    """The error to give: that of the preferred endpoint, unless it was merely busy and others know more."""
    chosen = next(
        (e for e in errors if not isinstance(e, UpstreamBusyError | BusyError)), errors[0]
    )
    if len(errors) > 1:
        chosen.message += f" ({len(errors) - 1} other endpoints did not answer either.)"
    return chosen


def _line(step: Step) -> str:
    """What is in good health or not: one model of one endpoint."""
    return f"{step.endpoint}/{step.model}"


def _names(steps: Sequence[Step]) -> str:
    return " and ".join(dict.fromkeys(step.endpoint for step in steps))
