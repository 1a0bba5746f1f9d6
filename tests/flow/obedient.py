"""Endpoints that do as they are told, in this process, and books that are strict."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from daulat.endpoints import Endpoint
from daulat.flow.attempt import Outcome
from daulat.flow.attempts import Attempts
from daulat.flow.breakers import Breakers
from daulat.flow.cascading import Keep
from daulat.flow.metering import Bound
from daulat.flow.working import Work
from daulat.values.answer import (
    CallPiece,
    Done,
    Embeddings,
    Event,
    Finish,
    Heard,
    Metered,
    Moderations,
    Piece,
    Timings,
    Usage,
)
from daulat.values.money import Price, Rates, per_million
from daulat.values.plan import Caller, Capability, EndpointCard, Offer, Patience, Plan, Step
from daulat.values.request import (
    ChatRequest,
    EmbeddingRequest,
    GenerationRequest,
    Message,
    ModerationRequest,
)

TIMINGS = Timings(0.0, 0.0, 0.0)
HANG = 3600.0
_NUMBERS = itertools.count()
PRICE = Price(Rates(per_million("1"), per_million("2"), per_million("1"), per_million("1")))
END = (Finish(0, "stop"), Done(Usage(5, 3), TIMINGS))
Act = str | float | BaseException | Finish | Done | CallPiece | Piece | Metered
"""A piece of text, seconds to wait, an error to raise, or an event."""


class Obedient:
    """Answers the first call by the first script, and so on; the last one over and over.

    `GO_ON` in a script stands for what of `whole` comes behind what the request has begun with.

    Attributes:
        asked: the requests.
        open: answers that are neither over nor closed.
    """

    GO_ON = Piece(0, "what is left")

    def __init__(
        self,
        name: str,
        *scripts: Sequence[Act],
        whole: str = "",
        can: Iterable[Capability] = (),
        patience: Patience | None = None,
    ) -> None:
        offer = Offer("m", "m", PRICE)
        self.card = EndpointCard(
            name,
            "us",
            "closed",
            {"m": offer},
            frozenset({"chat", *can}),
            patience=patience or Patience(),
        )
        self.scripts = list(scripts)
        self.whole = whole
        self.asked: list[Any] = []
        self.callers: list[str] = []
        self.open = 0

    def _script(self, request: Any) -> Sequence[Act]:
        self.asked.append(request)
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]

    async def generate(
        self, request: GenerationRequest, step: Step, caller: Caller
    ) -> AsyncGenerator[Heard, None]:
        self.open += 1
        self.callers.append(caller.id)
        try:
            for act in self._script(request):
                match act:
                    case str():
                        yield Piece(0, act)
                    case int() | float():
                        await asyncio.sleep(act)
                    case BaseException():
                        raise copy.copy(act)
                    case Piece() if act is self.GO_ON:
                        assert isinstance(request, ChatRequest)
                        yield Piece(0, self.whole.removeprefix(request.begun))
                    case _:
                        yield act
        finally:
            try:
                # A real endpoint has something to wait for when it lets go.
                await asyncio.sleep(0)
            finally:
                self.open -= 1

    async def embed(self, request: EmbeddingRequest, step: Step) -> Embeddings:
        for act in self._script(request):
            if isinstance(act, BaseException):
                raise copy.copy(act)
            if isinstance(act, int | float):
                await asyncio.sleep(act)
            if isinstance(act, Done):
                return Embeddings(((1.0,),), act.usage, TIMINGS)
        raise AssertionError("the script has no end")

    async def moderate(self, request: ModerationRequest, step: Step) -> Moderations:
        raise NotImplementedError

    async def close(self) -> None:
        pass


@dataclass
class StrictBooks:
    """Every attempt begins once and ends once."""

    begun: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    refuse: Exception | None = None
    slow: float = 0.0

    async def next(self, number: int, step: Step, limit: Bound) -> None:
        assert number not in [n for n, _ in self.begun]
        if self.refuse is not None:
            raise self.refuse
        self.begun.append((number, step.endpoint))
        if self.slow:
            await asyncio.sleep(self.slow)

    def ended(self, outcome: Outcome) -> None:
        assert outcome.number not in [one.number for one in self.outcomes], "settled twice"
        self.outcomes.append(outcome)

    def told(self) -> list[tuple[str, str | None]]:
        """By number: which endpoint, and how it ended."""
        ordered = sorted(self.outcomes, key=lambda one: one.number)
        return [(one.step.endpoint, one.error) for one in ordered]


@dataclass
class Asked:
    """A plan over some endpoints with what came of it."""

    endpoints: Sequence[Obedient]
    hedge: float = 0.0
    breakers: Breakers = field(default_factory=Breakers)
    books: StrictBooks = field(default_factory=StrictBooks)
    heard: list[Event] = field(default_factory=list[Event])
    keep: Keep | None = None

    def __post_init__(self) -> None:
        steps = tuple(Step(e.card.name, "us", "closed", "m", "") for e in self.endpoints)
        known: dict[str, Endpoint] = {e.card.name: e for e in self.endpoints}
        plan = Plan(steps, "the tests say so", self.hedge)
        self.caller = Caller(f"caller-{next(_NUMBERS)}", "test")
        self.attempts = Attempts(plan, known, self.breakers, self.caller, self.books, self.keep)

    async def ask(self, request: GenerationRequest | None = None, *, among: bool = False) -> str:
        """The whole text; the events are in `heard`, also where an error ended them.

        Args:
            among: others ask the same endpoints at once.
        """
        sent = request or chat()
        async for event in self.attempts.events(work(sent)):
            self.heard.append(event)
        if not among:
            self.check()
        return self.text

    def check(self) -> None:
        """Nothing is open, and whatever was begun has ended."""
        over = self.books.outcomes
        assert {number for number, _ in self.books.begun} <= {one.number for one in over}
        calls = sum(e.callers.count(self.caller.id) for e in self.endpoints)
        unasked = sum(o.error in ("left_alone", "cancelled", "hedged") for o in over)
        assert len(over) - unasked <= calls <= len(over)
        assert all(endpoint.open == 0 for endpoint in self.endpoints)

    @property
    def text(self) -> str:
        return "".join(e.text for e in self.heard if isinstance(e, Piece) and e.kind == "text")

    @property
    def usage(self) -> Usage:
        assert isinstance(self.heard[-1], Done)
        return self.heard[-1].usage


async def _yes(step: Step, text: str) -> bool:
    return True


def work(request: Any) -> Work[Any]:
    return Work(lambda _: request, lambda _step, _request: Bound(1000, 1000, 0), _yes)


def chat(*, stream: bool = True, **more: Any) -> ChatRequest:
    return ChatRequest("m", (Message("user", "Say the alphabet."),), stream=stream, **more)
