"""Which steps of a plan are asked, one after the other and how often: retries, rests, circuit breakers.

Not here: what an attempt is and what it costs (`attempts`), when a breaker opens (`breakers`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from daulat.endpoints import Endpoint
from daulat.errors import (
    BusyError,
    DaulatError,
    InternalError,
    LimitError,
    RecordError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.flow.attempt import Why
from daulat.flow.breakers import Breakers
from daulat.values.plan import Plan, Step

T = TypeVar("T")

LONGEST_WAIT = 10.0
"""Seconds; who asks for more is not waited for."""
_FIRST_BACKOFF = 0.25


class Trying:
    """One plan's steps in the order in which they are asked."""

    def __init__(self, plan: Plan, endpoints: Mapping[str, Endpoint], breakers: Breakers) -> None:
        self._plan = plan
        self._endpoints = endpoints
        self._breakers = breakers

    async def in_turn(self, steps: Sequence[Step], answer: Callable[[Step], Awaitable[T]]) -> T:
        """What the first step gives that answers.

        Raises:
            DaulatError: none did.
        """
        errors: list[DaulatError] = []
        for step in steps:
            if errors and self.rest(step):
                continue
            try:
                return await answer(step)
            except DaulatError as error:
                errors.append(error)
                if not _elsewhere(error):
                    break
        raise verdict(errors)

    async def retried(self, step: Step, why: Why, once: Callable[[Why], Awaitable[T]]) -> T:
        """One step with its retries. Where a limit forbids another try, the last one's error stands."""
        tries = 0
        failure: DaulatError | None = None
        while True:
            try:
                return await once(why if tries == 0 else "retry")
            except LimitError as error:
                raise failure or error from None
            except DaulatError as error:
                wait, failure = self._wait(step, error, tries), error
                if wait is None:
                    raise
            tries += 1
            await asyncio.sleep(wait)

    async def askable(self) -> list[Step]:
        """The steps whose endpoints are not being left alone.

        Raises:
            UpstreamBusyError: all asked for that, for longer than a request waits.
            UpstreamUnavailableError: all are, because some failed.
        """
        every = self._plan.steps
        steps = [step for step in every if not self.rest(step)]
        failed = any(self._breakers.broken(_line(step)) for step in every)
        soonest = min(self.rest(step) for step in every)
        if not steps and not failed and soonest <= LONGEST_WAIT:
            await asyncio.sleep(soonest * random.uniform(1.0, 1.1))  # noqa: S311 - not a secret
            steps = [step for step in every if not self.rest(step)]
        if steps:
            return steps
        soonest = min(self.rest(step) for step in every)
        if not failed:
            raise UpstreamBusyError(
                f"{_names(every)} asked to be left alone for {soonest:.0f} s. Try again then.",
                retry_after=soonest,
            )
        raise UpstreamUnavailableError(
            f"{_names(every)} failed several times in a row and will be asked again in "
            f"{soonest:.0f} s. `daulat endpoints test` says what is wrong.",
            retry_after=soonest,
        )

    def asked(self, step: Step) -> None:
        """It is asked now; `answered`, `left` or `failed` follows."""
        self._breakers.asked(_line(step))

    def answered(self, step: Step) -> None:
        """It has answered."""
        self._breakers.answered(_line(step))

    def left(self, step: Step) -> None:
        """What became of it says nothing of its health."""
        self._breakers.left(_line(step))

    def failed(self, step: Step, error: BaseException) -> None:
        """It did not answer: what that says of its health."""
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

    def rest(self, step: Step) -> float:
        """Seconds for which it is to be left alone."""
        return self._breakers.waits(_line(step), time.monotonic())

    def _wait(self, step: Step, error: DaulatError, tries: int) -> float | None:
        """Seconds until the same endpoint is asked again; None: it is not."""
        retries = self._endpoints[step.endpoint].card.patience.retries
        if not isinstance(error, UpstreamError) or not error.again or tries >= retries:
            return None
        backoff = _FIRST_BACKOFF * 2.0**tries * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
        wait = max(backoff, error.retry_after or 0.0)
        others = len(self._plan.steps) > 1
        if wait > (1.0 if others else LONGEST_WAIT) or self.rest(step) > wait:
            return None
        return wait


def _elsewhere(error: DaulatError) -> bool:
    """Whether another endpoint may answer what this one did not. What cannot be recorded nobody may."""
    if isinstance(error, RecordError):
        return False
    return not isinstance(error, UpstreamError) or error.elsewhere


def verdict(errors: Sequence[DaulatError]) -> DaulatError:
    """The error to give when no step answered.

    It is that of the preferred endpoint, unless that was merely busy and others know more. A limit that
    forbade one more attempt does not hide what the endpoints said; a record that fails does.
    """
    if isinstance(errors[-1], RecordError):
        return errors[-1]
    limits = [e for e in errors if isinstance(e, LimitError)]
    told = [e for e in errors if not isinstance(e, LimitError)]
    if not told:
        return limits[0]
    chosen = next((e for e in told if not isinstance(e, UpstreamBusyError | BusyError)), told[0])
    if len(told) > 1:
        chosen.message += f" ({len(told) - 1} other endpoints did not answer either.)"
    if limits:
        chosen.message += f" Another one was not asked: {limits[0].message}"
    return chosen


def _line(step: Step) -> str:
    """What is in good health or not: one model of one endpoint."""
    return f"{step.endpoint}/{step.model}"


def _names(steps: Sequence[Step]) -> str:
    return " and ".join(dict.fromkeys(step.endpoint for step in steps))
