"""What the attempts of an exchange are given: what to ask, and whom to tell.

Not here: the attempts (`attempts`), the books (`books`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from daulat.flow.attempt import Outcome
from daulat.flow.metering import Bound
from daulat.values.plan import Step
from daulat.values.request import Request

R = TypeVar("R", bound=Request)


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
class Work(Generic[R]):
    """What is asked of each step.

    Attributes:
        request: what a step is sent, redacted where it must be.
        limit: the most that a request can use at a step.
        may_hear: whether a step may be told what another place answered.
    """

    request: Callable[[Step], R]
    limit: Callable[[Step, R], Bound]
    may_hear: Callable[[Step, str], Awaitable[bool]]
