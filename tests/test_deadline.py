"""Waits that end when their time is up, beside what `asyncio.timeout` does."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from daulat.deadline import Deadline

SOON, LONG = 0.1, 30.0

Limit = Callable[[float], contextlib.AbstractAsyncContextManager[object]]


@contextlib.asynccontextmanager
async def ours(seconds: float) -> AsyncGenerator[None]:
    with contextlib.closing(Deadline()) as deadline, deadline.until(time.monotonic() + seconds):
        yield


LIMITS = pytest.mark.parametrize("limit", [asyncio.timeout, ours])
"""The oracle and ours."""


Run = Callable[[Awaitable[object]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def running(work: Awaitable[object]) -> None:
        async def within() -> None:
            async with asyncio.timeout(LONG):
                await work

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(within())

    return running


def current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


@LIMITS
def test_what_takes_too_long_is_ended(limit: Limit, run: Run) -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with limit(SOON):
                await asyncio.Event().wait()
        assert current().cancelling() == 0
        await asyncio.sleep(0)

    run(work())


@LIMITS
def test_what_is_in_time_is_left_alone(limit: Limit, run: Run) -> None:
    async def work() -> None:
        async with limit(SOON):
            await asyncio.sleep(0)
        await asyncio.sleep(3 * SOON)
        assert current().cancelling() == 0

    run(work())


@LIMITS
def test_an_error_is_its_own(limit: Limit, run: Run) -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError, match="another"):
            async with limit(LONG):
                raise TimeoutError("another")
        with pytest.raises(KeyError):
            async with limit(LONG):
                raise KeyError

    run(work())


@LIMITS
def test_who_cancels_from_outside_is_heard(limit: Limit, run: Run) -> None:
    async def waiting() -> None:
        async with limit(LONG):
            await asyncio.Event().wait()

    async def work() -> None:
        task = asyncio.ensure_future(waiting())
        await asyncio.sleep(SOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())


@LIMITS
def test_who_cancels_while_the_time_runs_out_is_heard(limit: Limit, run: Run) -> None:
    async def waiting() -> None:
        async with limit(SOON):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                current().cancel()
                raise

    async def work() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(waiting())

    run(work())


@LIMITS
def test_one_within_another(limit: Limit, run: Run) -> None:
    async def work() -> None:
        async with limit(LONG):
            with pytest.raises(TimeoutError):
                async with limit(SOON):
                    await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            async with limit(SOON), limit(LONG):
                await asyncio.Event().wait()
        assert current().cancelling() == 0

    run(work())


def test_many_waits_have_one_timer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made, arm = 0, Deadline._arm

    def counted(self: Deadline, least: float = 0.0) -> None:
        nonlocal made
        made += 1
        arm(self, least)

    async def work() -> None:
        with contextlib.closing(Deadline()) as deadline:
            for _ in range(100):
                with deadline.until(time.monotonic() + LONG):
                    await asyncio.sleep(0)
            assert made == 1
            with pytest.raises(TimeoutError), deadline.until(time.monotonic() + SOON):
                await asyncio.Event().wait()
            # One for the nearer end, and a few where a timer is a little early: no spinning.
            assert made <= 5

    monkeypatch.setattr(Deadline, "_arm", counted)
    run(work())


def test_what_is_closed_ends_nothing_any_more(run: Run) -> None:
    async def work() -> None:
        deadline = Deadline()
        with deadline.until(time.monotonic() + SOON):
            await asyncio.sleep(0)
            deadline.close()
            await asyncio.sleep(2 * SOON)
        assert not deadline.expired

    run(work())


def test_a_wait_without_end_behind_one_with_an_end(run: Run) -> None:
    async def work() -> None:
        with contextlib.closing(Deadline()) as deadline:
            with deadline.until(time.monotonic() + SOON):
                await asyncio.sleep(0)
            with deadline.until(math.inf):
                await asyncio.sleep(2 * SOON)
        assert not deadline.expired

    run(work())


def test_a_timer_of_an_earlier_wait_looks_again(run: Run) -> None:
    async def work() -> None:
        with contextlib.closing(Deadline()) as deadline:
            with deadline.until(time.monotonic() + SOON):
                await asyncio.sleep(0)
            begun = time.monotonic()
            with pytest.raises(TimeoutError), deadline.until(begun + 4 * SOON):
                await asyncio.Event().wait()
            assert time.monotonic() >= begun + 4 * SOON
            assert deadline.expired

    run(work())


def test_an_earlier_end_than_the_timers_holds(run: Run) -> None:
    async def work() -> None:
        with contextlib.closing(Deadline()) as deadline:
            with deadline.until(time.monotonic() + LONG):
                await asyncio.sleep(0)
            with pytest.raises(TimeoutError), deadline.until(time.monotonic() + SOON):
                await asyncio.Event().wait()

    run(work())


def test_what_has_expired_serves_again(run: Run) -> None:
    async def work() -> None:
        with contextlib.closing(Deadline()) as deadline:
            for _ in range(3):
                with pytest.raises(TimeoutError), deadline.until(time.monotonic() + SOON):
                    await asyncio.Event().wait()
            with deadline.until(math.inf):
                await asyncio.sleep(2 * SOON)
            assert not deadline.expired
        assert current().cancelling() == 0

    run(work())


def test_time_between_waits_does_not_count(run: Run) -> None:
    async def work() -> None:
        with contextlib.closing(Deadline()) as deadline:
            with deadline.until(time.monotonic() + SOON):
                await asyncio.sleep(0)
            await asyncio.sleep(3 * SOON)
            with deadline.until(time.monotonic() + LONG):
                await asyncio.sleep(0)
        assert current().cancelling() == 0

    run(work())


def test_waits_of_several_tasks(run: Run) -> None:
    """As in an answer that one task begins and another reads to its end."""

    async def words(deadline: Deadline) -> AsyncIterator[int]:
        for number in range(3):
            with deadline.until(time.monotonic() + SOON):
                await asyncio.sleep(0 if number < 2 else LONG)
            yield number

    async def work() -> None:
        with contextlib.closing(Deadline()) as deadline:
            said = words(deadline)
            assert await asyncio.create_task(anext(said)) == 0  # type: ignore[arg-type]
            assert await anext(said) == 1
            with pytest.raises(TimeoutError):
                await asyncio.create_task(anext(said))  # type: ignore[arg-type]
            assert current().cancelling() == 0

    run(work())


@LIMITS
def test_a_time_that_is_up_already(limit: Limit, run: Run) -> None:
    """Also where each wait takes one turn of the event loop."""

    async def waits() -> None:
        for _ in range(100):
            async with limit(-1.0):
                await asyncio.sleep(0)

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with limit(-1.0):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await waits()

    run(work())
