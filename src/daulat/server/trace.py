"""What becomes known of one HTTP request while it is served.

Its log line, its metrics and its headers are made of that. It never holds contents, keys or headers
of the request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.types import Scope

from daulat.errors import DaulatError, PolicyError
from daulat.flow import Exchange, Outcome
from daulat.net.tracing import Place
from daulat.values.answer import Done, Usage
from daulat.values.chance import random_bytes

ESTIMATE = "estimate"  # the header `daulat-counted` of tokens that nobody told
HEADERS: Mapping[str, str] = {
    "daulat-record": "The exchange's id in the record.",
    "daulat-endpoint": "What answered.",
    "daulat-place": "Where it was computed.",
    "daulat-model": "The model that answered, as clients name it.",
    "daulat-class": "The data class of the request's texts.",
    "daulat-route": "Of a request to daulat/auto: the task, what its certificate said, and how sure it was.",
    "daulat-attempts": "How many times an endpoint was asked, where that is more than once.",
    "daulat-cost": "What it cost, with its currency; of a stream the last event says it.",
    "daulat-counted": "`estimate`: nobody told the tokens, Daulat has estimated them.",
}
"""The headers of an answer that belongs to an exchange."""
KEY = "daulat"  # where the trace lies in an ASGI scope


@dataclass(slots=True)
class Trace:
    """Times are seconds by the monotonic clock; empty strings stand for what is not known (yet).

    Attributes:
        cost: of the answer, with its currency, where it is known.
        outcomes: of the attempts that are over.
        asked: the exchange, once it is in the record.
        classes: by place, of data that the policy kept from there; empty: nothing was refused.
        place: in a distributed trace, where there is one.
        arrived: in nanoseconds since 1970, where `place` is known.
    """

    method: str
    id: str = field(default_factory=lambda: random_bytes(8).hex())
    started: float = field(default_factory=time.monotonic)
    route: str = ""
    status: int = 0
    caller: str = ""
    exchange: str = ""
    model: str = ""
    error: str = ""
    first_event: float | None = None
    done: Done | None = None
    usage: Usage | None = None
    cost: str | None = None
    outcomes: Sequence[Outcome] = ()
    asked: Exchange | None = None
    classes: Mapping[str, str] = field(default_factory=dict[str, str])
    place: Place | None = None
    arrived: int = 0

    def fail(self, error: DaulatError) -> None:
        """What the request ended with."""
        self.error = error.code
        if isinstance(error, PolicyError):
            self.classes = error.classes

    def headers(self) -> dict[str, str]:
        """The headers of an answer that belongs to an exchange; before there is one, none."""
        exchange = self.asked
        if exchange is None:
            return {}
        headers = {
            "daulat-record": exchange.id,
            "daulat-endpoint": quote(exchange.step.endpoint),
            "daulat-place": quote(exchange.step.place),
            "daulat-model": quote(exchange.step.model_id),
            "daulat-class": quote(exchange.data_class),
        }
        if exchange.ruling is not None:
            headers["daulat-route"] = quote(str(exchange.ruling), safe="; =")
        if exchange.begun > 1:
            headers["daulat-attempts"] = str(exchange.begun)
        # After an error nothing more is asked; a stream that begins has not cost all that it will.
        cost = exchange.cost if self.error else self.cost
        if cost is not None:
            headers["daulat-cost"] = cost
        if self.usage and self.usage.counted:
            headers["daulat-counted"] = ESTIMATE
        return headers


def trace_of(scope: Scope) -> Trace:
    trace = scope[KEY]
    assert isinstance(trace, Trace)  # noqa: S101 - the shell has put it there
    return trace
