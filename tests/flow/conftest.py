"""One scripted upstream for these tests, its books empty before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Delays, Script, Upstream


@pytest.fixture(scope="session")
def _running() -> Iterator[Upstream]:
    script = Script(words=12, delays=Delays(late=1.0), cached_tokens=3, reasoning_tokens=2)
    with scripted.running(script, strict=False) as upstream:
        yield upstream


@pytest.fixture
def upstream(_running: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """12 words an answer, behind two tokens of thought; three tokens of each prompt are cached."""
    monkeypatch.setenv("SCRIPTED_KEY", "scripted-secret-key")
    _running.reset()
    return _running
