"""One scripted upstream for all of these tests, its books empty before each, and endpoints that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asking import Asked, Make

from daulat.endpoints import scripted
from daulat.endpoints.remote.build import endpoint
from daulat.endpoints.remote.upstream import RemoteEndpoint
from daulat.endpoints.scripted import Delays, Script, Upstream
from daulat.settings import Endpoint, Money


@pytest.fixture(scope="session")
def _running() -> Iterator[Upstream]:
    with scripted.running(Script(words=20, delays=Delays(late=0.4))) as upstream:
        yield upstream


@pytest.fixture
def upstream(_running: Upstream) -> Upstream:
    """20 words an answer; slow faults are 0.4 seconds late."""
    _running.reset()
    return _running


@pytest.fixture
async def remote(upstream: Upstream) -> AsyncIterator[Make]:
    """Makes endpoints of a table's keys; they are closed with the test."""
    made: list[RemoteEndpoint] = []

    def make(**keys: Any) -> Asked:
        table = Endpoint(
            **{
                "kind": "openai",
                "url": f"{upstream.url}/v1",
                "key": "env:SCRIPTED_KEY",
                "place": "this-machine",
                "models": ("scripted",),
                **keys,
            }
        )
        made.append(endpoint("scripted", table, Money()))
        return Asked(made[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIPTED_KEY", "scripted-secret-key")
        yield make
        for one in made:
            await one.close()
