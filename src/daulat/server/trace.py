"""What becomes known of one HTTP request while it is served.

Its log line, its metrics and its headers are made of that. It never holds contents, keys or headers
of the request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.types import Scope

from daulat.flow import Outcome
from daulat.values.answer import Done, Usage
from daulat.values.chance import random_bytes
from daulat.values.plan import Step

ESTIMATE = "estimate"  # the header `daulat-counted` of tokens that nobody told
KEY = "daulat"  # where the trace lies in an ASGI scope


@dataclass(slots=True)
class Trace:
    """Times are seconds by the monotonic clock; empty strings stand for what is not known (yet).

    Attributes:
        cost: of the answer, with its currency, where it is known.
        outcomes: of the attempts that are over.
    """

    method: str
    id: str = field(default_factory=lambda: random_bytes(8).hex())
    started: float = field(default_factory=time.monotonic)
    route: str = ""
    status: int = 0
    caller: str = ""
    exchange: str = ""
    model: str = ""
    step: Step | None = None
    error: str = ""
    first_event: float | None = None
    done: Done | None = None
    usage: Usage | None = None
    cost: str | None = None
    outcomes: Sequence[Outcome] = ()

    def headers(self) -> dict[str, str]:
        """The headers of an answer that belongs to an exchange; before there is one, none."""
        if not self.exchange:
            return {}
        headers = {"daulat-record": self.exchange}
        if self.step:
            headers["daulat-endpoint"] = quote(self.step.endpoint)
            headers["daulat-place"] = quote(self.step.place)
        if self.cost is not None:
            headers["daulat-cost"] = self.cost
        if self.usage and self.usage.counted:
            headers["daulat-counted"] = ESTIMATE
        return headers


def trace_of(scope: Scope) -> Trace:
    trace = scope[KEY]
    assert isinstance(trace, Trace)  # noqa: S101 - the shell has put it there
    return trace
