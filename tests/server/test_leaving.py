"""A client that leaves while its request is worked on."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from daulat.server.calls import ClientGone, until_gone

LONG = 30.0


class Client:
    """Leaves when it is told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.asked = 0

    async def receive(self) -> Message:
        self.asked += 1
        await self.leaves.wait()
        return {"type": "http.disconnect"}


async def test_quick_work_is_not_watched() -> None:
    client = Client()

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await until_gone(client.receive, work()) == 7
    assert client.asked == 0


@pytest.mark.parametrize("seconds", [0.0, 0.1])
async def test_work_ends_when_the_client_leaves(seconds: float) -> None:
    client, ended = Client(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            ended.set()

    asyncio.get_running_loop().call_later(seconds, client.leaves.set)
    async with asyncio.timeout(LONG):
        with pytest.raises(ClientGone):
            await until_gone(client.receive, work())
    assert ended.is_set()
    assert_not_cancelled()


async def test_who_leaves_in_the_moment_of_the_answer_cancels_nothing_else() -> None:
    client = Client()

    async def work() -> int:
        await client.leaves.wait()
        return 7

    asyncio.get_running_loop().call_later(0.1, client.leaves.set)
    assert await until_gone(client.receive, work()) == 7
    for _ in range(5):
        await asyncio.sleep(0)
    assert_not_cancelled()


async def test_an_end_from_outside_is_not_the_clients() -> None:
    client = Client()

    async def work() -> None:
        await asyncio.sleep(LONG)

    task = asyncio.ensure_future(until_gone(client.receive, work()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def assert_not_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
