"""A plan carried out: fallbacks, cascades, hedges, and answers that go on elsewhere.

Until a part of the answer has been given, a failure is followed by another attempt and nobody sees it. After
that the answer goes on at an endpoint that can continue it, or ends with an error: a cut answer never looks
whole. Not here: one attempt (`attempt`), how often (`trying`), who judges a cascade's answer (`cascading`),
what may be asked at all (`policy`), the order (`route`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from daulat.endpoints import Endpoint
from daulat.errors import (
    DaulatError,
    UpstreamError,
    UpstreamTimeoutError,
)
from daulat.flow.attempt import (
    CANCELLED,
    HEDGED,
    Attempt,
    Outcome,
    Times,
    Why,
    billable,
    defect,
    price_of,
)
from daulat.flow.breakers import Breakers
from daulat.flow.cascading import Keep, said
from daulat.flow.continuing import Given, continuable, going_on
from daulat.flow.metering import NOTHING, Bound, Meter, cost
from daulat.flow.trying import Trying, elsewhere, verdict
from daulat.flow.working import Books, R, Work
from daulat.net import tracing
from daulat.record.transcript import RESTING
from daulat.values.answer import Done, Event, Usage
from daulat.values.plan import Caller, EndpointCard, Plan, Step
from daulat.values.request import GenerationRequest

T = TypeVar("T")

MOST_CONTINUED = 4
"""So often one answer goes on elsewhere: each time its whole prompt is paid again."""


class Attempts:
    """Carries out one plan.

    Args:
        keep: judges the first step's whole answer; what it does not keep is asked of the next steps, and
            given all the same if none of them answers. None: the first answer is the answer.

    Attributes:
        escalated: the first step's answer was not kept.
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
        keep: Keep | None = None,
    ) -> None:
        self.first = plan.steps[0]
        self.step = self.first
        self.escalated = False
        self._keep = keep
        self.continued: list[tuple[int, Step]] = []
        self.begun = 0
        self._plan = plan
        self._endpoints = endpoints
        self._trying = Trying(plan, endpoints, breakers)
        self._caller = caller
        self._books = books
        self._number = 0
        self._ending = CANCELLED
        self._begun: list[Attempt] = []

    # --- answers that come as events ----------------------------------------------------------------

    async def events(self, work: Work[GenerationRequest]) -> AsyncGenerator[Event, None]:
        """The answer; ended by `Done`.

        Raises:
            DaulatError: no step answered, or the answer broke off and nobody could go on with it.
        """
        given = Given()
        attempt: Attempt | None = await self._first(work)
        while attempt is not None:
            self.step, following = attempt.step, None
            try:
                async with contextlib.aclosing(attempt.rest()) as events:
                    async for event in events:
                        given.add(event)
                        if isinstance(event, Done):
                            # The books are closed before anyone hears that the answer is whole.
                            self._ended(attempt, CANCELLED)
                            yield Done(given.whole(event.usage), event.timings)
                        else:
                            yield event
            except DaulatError as error:
                self._trying.failed(attempt.step, error)
                await self._left(attempt, error.code)
                following = await self._continued(work, given, attempt.step, error)
                if following is None:
                    raise
                given.cut(attempt.outcome)
                self.continued.append((len(given.text), following.step))
            finally:
                await self._left(attempt, CANCELLED)
            attempt = following

    def end(self) -> None:
        """Nobody listens any more: what is still under way is over, as far as the books go."""
        for attempt in self._begun:
            self._ended(attempt, self._ending)

    async def _first(self, work: Work[GenerationRequest]) -> Attempt:
        """The first attempt that has something to say."""
        steps = await self._trying.askable()
        if self._keep is not None and steps[0] is self.first and len(steps) > 1:
            return await self._cascaded(steps, work, self._keep)
        if self._plan.hedge > 0 and len(steps) > 1:
            return await self._hedged(steps, work)
        return await self._trying.in_turn(
            steps, lambda step: self._lane(step, work, self._why(step))
        )

    async def _cascaded(
        self, steps: Sequence[Step], work: Work[GenerationRequest], keep: Keep
    ) -> Attempt:
        """The first step's answer where it is kept; otherwise what the others say, if they say anything."""
        first, *others = steps
        try:
            attempt = await self._lane(first, work, "first", whole=True)
        except DaulatError as error:
            if not elsewhere(error):
                raise
            return await self._trying.in_turn(
                others, lambda step: self._lane(step, work, "fallback")
            )
        await self._left(attempt, CANCELLED)
        if keep(said(attempt.primed)):
            return attempt
        self.escalated = True
        try:
            return await self._trying.in_turn(
                others, lambda step: self._lane(step, work, "escalation")
            )
        except DaulatError as error:
            if not elsewhere(error):
                raise
            return attempt

    async def _hedged(self, steps: Sequence[Step], work: Work[GenerationRequest]) -> Attempt:
        """Each step begins when those before it have said nothing for a while, or have failed."""
        waiting = list(steps)
        lanes: set[asyncio.Task[Attempt]] = set()
        errors: list[DaulatError] = []
        winner: Attempt | None = None
        try:
            while winner is None and (waiting or lanes):
                if waiting:
                    step = waiting.pop(0)
                    why = "hedge" if lanes else self._why(step)
                    lanes.add(asyncio.create_task(self._lane(step, work, why)))
                timeout = self._plan.hedge if waiting else None
                done, _ = await asyncio.wait(
                    lanes, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                while done and winner is None:
                    lanes.discard(lane := done.pop())
                    winner = _primed(lane, errors)
        finally:
            await self._drop(lanes, winner)
        if winner is None:
            raise verdict(errors)
        return winner

    async def _drop(self, lanes: set[asyncio.Task[Attempt]], winner: Attempt | None) -> None:
        """End the lanes that lost; one may have won in the same moment."""
        self._ending = CANCELLED if winner is None else HEDGED
        for lane in lanes:
            lane.cancel()
        try:
            await asyncio.gather(*lanes, return_exceptions=True)
        except asyncio.CancelledError:
            if winner is not None:
                await self._left(winner, CANCELLED)
            raise
        finally:
            for lane in lanes:
                if lane.done() and not lane.cancelled() and lane.exception() is None:
                    await self._left(lane.result(), self._ending)
            self._ending = CANCELLED

    async def _lane(
        self, step: Step, work: Work[GenerationRequest], why: Why, *, whole: bool = False
    ) -> Attempt:
        """An attempt at one step that has something to say, after as many as that takes.

        Args:
            whole: all that it has to say is there.
        """
        return await self._trying.retried(
            step, why, lambda why: self._speaking(step, work, why, whole=whole)
        )

    async def _speaking(
        self, step: Step, work: Work[GenerationRequest], why: Why, *, whole: bool
    ) -> Attempt:
        """One attempt that has something to say."""
        attempt = await self._attempt(step, work, why)
        try:
            await attempt.prime(whole=whole)
        except DaulatError as error:
            self._trying.failed(step, error)
            await self._left(attempt, error.code)
            raise
        except BaseException:
            await self._left(attempt, self._ending)
            raise
        return attempt

    def _why(self, step: Step) -> Why:
        return "first" if step is self.first else "fallback"

    async def _attempt(self, step: Step, work: Work[GenerationRequest], why: Why) -> Attempt:
        request = work.request(step)
        limit = work.limit(step, request)
        number = await self._begin(step, limit)
        endpoint = self._endpoints[step.endpoint]
        attempt = Attempt(number, step, endpoint, request, self._caller, limit, why)
        self._begun.append(attempt)
        return attempt

    async def _continued(
        self, work: Work[GenerationRequest], given: Given, cut: Step, error: DaulatError
    ) -> Attempt | None:
        """An attempt that goes on where another was cut; None where there is none."""
        request = work.request(cut)
        if not given.text or not given.plain or not continuable(request, given.text):
            return None
        if len(self.continued) >= MOST_CONTINUED:
            return None
        following = Work(
            lambda step: going_on(work.request(step), given.text), work.limit, work.may_hear
        )
        for step in self._continuing(cut, error):
            if self._trying.rest(step):
                continue
            try:
                if step.place == cut.place or await work.may_hear(step, given.text):
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
        work: Work[R],
        call: Callable[[Endpoint, Step, R], Awaitable[T]],
        used: Callable[[T], Usage],
    ) -> tuple[T, Usage]:
        """One call to the first step that answers it, and what it used as far as that can be believed.

        Args:
            used: what the answer says it used.

        Raises:
            DaulatError: no step answered.
        """
        return await self._trying.in_turn(
            await self._trying.askable(),
            lambda step: self._trying.retried(
                step, self._why(step), lambda why: self._asked(step, work, call, used, why)
            ),
        )

    async def _asked(
        self,
        step: Step,
        work: Work[R],
        call: Callable[[Endpoint, Step, R], Awaitable[T]],
        used: Callable[[T], Usage],
        why: Why,
    ) -> tuple[T, Usage]:
        """One attempt."""
        card = self._endpoints[step.endpoint].card
        sent = work.request(step)
        limit = work.limit(step, sent)
        meter, price = Meter(sent, limit, own=not card.offers), price_of(card, step)
        number = await self._begin(step, limit)
        begun = time.monotonic()
        try:
            answer = await _in_time(call(self._endpoints[step.endpoint], step, sent), card)
        except BaseException as error:
            ours = error if isinstance(error, DaulatError) else None
            usage = NOTHING if ours and not billable(ours) else meter.so_far()
            money = 0 if usage is NOTHING else cost(price, usage)
            ending = ours.code if ours else CANCELLED
            times = Times(begun, None, time.monotonic())
            self._books.ended(Outcome(number, step, ending, usage, money, why, times))
            self._trying.failed(step, error)
            raise
        usage = meter.reported(used(answer)) if card.offers else used(answer)
        now = time.monotonic()
        times = Times(begun, now, now)
        self._books.ended(Outcome(number, step, None, usage, cost(price, usage), why, times))
        self._trying.answered(step)
        self.step = step
        return answer, usage

    # --- one after the other -----------------------------------------------------------------------

    # --- health, waiting, books ---------------------------------------------------------------------

    async def _begin(self, step: Step, limit: Bound) -> int:
        if self._number == 0 and step != self.first:
            # What was set aside for the first step is given back: it is being left alone.
            self._books.ended(Outcome(0, self.first, RESTING, NOTHING, 0))
            self._number = 1
        number, self._number = self._number, self._number + 1
        self._trying.asked(step)
        if number:
            try:
                await self._books.next(number, step, limit)
            except BaseException as error:
                self._trying.left(step)
                if not isinstance(error, DaulatError):
                    # It may have been set aside all the same, and nobody was asked.
                    self._books.ended(Outcome(number, step, self._ending, NOTHING, 0))
                raise
        self.begun += 1
        tracing.attempt(number)
        return number

    async def _left(self, attempt: Attempt, why: str) -> None:
        self._ended(attempt, why)
        await attempt.leave()

    def _ended(self, attempt: Attempt, why: str) -> None:
        """Once for each attempt: what it cost, and what it says of the endpoint's health.

        Nothing is waited for, so that whatever stops the waiting, the books are right.
        """
        if attempt.told:
            return
        attempt.told = True
        if attempt.outcome is None:
            self._trying.left(attempt.step)
        elif attempt.outcome.error is None:
            self._trying.answered(attempt.step)
        self._books.ended(attempt.cut(why))


def _primed(lane: asyncio.Task[Attempt], errors: list[DaulatError]) -> Attempt | None:
    """What came of a lane that has ended; its error is noted."""
    error = lane.exception()
    if error is None:
        return lane.result()
    if not isinstance(error, DaulatError):
        raise error
    errors.append(error)
    return None


async def _in_time(answer: Awaitable[T], card: EndpointCard) -> T:
    """An answer in one piece, within the endpoint's time; what is no error of ours becomes one."""
    total = card.patience.total
    limit = asyncio.timeout(total if total < float("inf") else None)
    try:
        async with limit:
            return await answer
    except DaulatError:
        raise
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            raise UpstreamTimeoutError(
                f"The endpoint {card.name} took longer than {total:g} s. Try again, or give it more "
                f"time in [endpoints.{card.name}] of daulat.toml.",
                billable=True,
            ) from None
        raise defect(card.name) from error
