"""One scripted upstream for all of these tests, its books empty before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Delays, Script, Upstream


@pytest.fixture(scope="session")
def _running() -> Iterator[Upstream]:
    with scripted.running(Script(words=20, delays=Delays(late=0.4))) as upstream:
        yield upstream


@pytest.fixture
def upstream(_running: Upstream) -> Upstream:
    """20 words an answer; slow faults are 0.4 seconds late."""
    _running.reset()
    return _running
