"""Answers for those who evaluate, through the hall: guard, policy, budgets and record as for any request.

Not here: what is asked and what becomes of the answers (`evaluate`).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from daulat.errors import DaulatError, UnavailableError
from daulat.evaluate.asking import Answering, Failed, Question, Told
from daulat.flow import Exchange
from daulat.flow.metering import bound, size
from daulat.flow.texts import texts
from daulat.house import House
from daulat.values.answer import Done, Event, Finish, FinishReason, Piece, TokenLogprob
from daulat.values.money import FREE
from daulat.values.plan import Caller, EndpointCard, Limits, Offer, Step
from daulat.values.request import ChatRequest, Message, Sampling

_Line = tuple[Step, EndpointCard, Offer | None]


def caller(name: str, *, project: str = "", budget: int | None = None) -> Caller:
    """Under whose name an evaluation asks.

    Args:
        name: its id in the record and in the books, `compare-…`: what it spends is told under it.
        project: whose limits hold as well.
        budget: the most that all that is asked under that name may cost, ever.
    """
    limits = Limits(money_in_all=budget)
    return Caller(name, name, scopes=("ask",), project=project, limits=limits)


class HouseAsking:
    """`evaluate.asking.Asking`, and `Ask`, by a house in this process.

    Args:
        who: see `caller`.
    """

    def __init__(self, house: House, who: Caller) -> None:
        self._hall = house.hall
        self._who = who
        self._lines: dict[str, tuple[_Line, ...]] = {}
        self.currency = house.hall.setup.currency

    async def __call__(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        logprobs: bool,
    ) -> Told:
        """See `Ask`."""
        found = await self.tried(
            Question(model, tuple(messages), max_tokens, temperature, seed, logprobs)
        )
        if isinstance(found, Failed):
            raise found.error
        return found

    async def answering(self, name: str) -> Answering:
        """See `Asking`."""
        lines = await self._answering(name)
        step, card, offer = lines[0]
        price = (offer.price if offer else None) if card.offers else FREE
        return Answering(
            name,
            tuple(step.identity for step, _card, _offer in lines),
            step.endpoint,
            step.place,
            open=all(step.owner == "open" for step, _card, _offer in lines),
            price=price,
            logprobs=_all_can(lines, "logprobs"),
            can=_all_of(lines),
        )

    async def most(self, question: Question) -> int | None:
        """See `Asking`."""
        request = await self._request(question)
        (_step, card, offer), *_others = await self._answering(question.model)
        return bound(request, offer if card.offers else None, size(texts(request))).money

    async def tried(self, question: Question) -> Told | Failed:
        """See `Asking`."""
        began = time.monotonic()
        exchange: Exchange | None = None
        heard = _Heard()
        try:
            request = await self._request(question)
            exchange = await self._hall.open(self._who, request, question.data_class)
            async with contextlib.aclosing(exchange.events()) as events:
                async for event in events:
                    heard.add(event)
            return heard.told(exchange, began)
        except DaulatError as error:
            seconds = time.monotonic() - began
            if exchange is None:
                return Failed(error, 0, seconds)
            return Failed(error, exchange.money, seconds, exchange.id)

    async def _request(self, question: Question) -> ChatRequest:
        """What an endpoint cannot do is not asked for: a seed, log-probabilities and a probe are welcome, no
        more."""
        lines = await self._answering(question.model)
        sampling = Sampling(
            max_tokens=question.max_tokens,
            temperature=question.temperature,
            seed=question.seed if _all_can(lines, "seed") else None,
            logprobs=question.alternatives
            if question.logprobs and _all_can(lines, "logprobs")
            else None,
            probe=question.probe and _all_can(lines, "probe"),
        )
        return ChatRequest(
            question.model,
            question.messages,
            sampling,
            structure=question.structure,
            stream=True,
        )

    async def _answering(self, name: str) -> tuple[_Line, ...]:
        if name not in self._lines:
            self._lines[name] = await self._hall.answering(self._who, name)
        return self._lines[name]


@dataclass(slots=True)
class _Heard:
    """An answer as it comes."""

    said: list[str] = field(default_factory=list[str])
    refusal: list[str] = field(default_factory=list[str])
    logprobs: list[float] = field(default_factory=list[float])
    beginnings: tuple[tuple[str, float], ...] = ()
    first: float | None = None
    reason: FinishReason = "stop"
    probe: tuple[float, ...] = ()
    done: Done | None = None

    def add(self, event: Event) -> None:
        match event:
            case Piece():
                if event.text and event.kind != "thought" and self.first is None:
                    self.first = time.monotonic()
                if event.kind == "text":
                    self.said.append(event.text)
                    self.logprobs += _known(event.logprobs)
                    self.beginnings = self.beginnings or _beginnings(event.logprobs)
                elif event.kind == "refusal":
                    self.refusal.append(event.text)
            case Finish():
                self.reason, self.probe = event.reason, event.probe
            case Done():
                self.done = event
            case _:
                pass

    def told(self, exchange: Exchange, began: float) -> Told:
        if self.done is None:
            raise UnavailableError("The answer broke off. Ask again.")
        step = exchange.step
        return Told(
            text="".join(self.said) or "".join(self.refusal),
            finish_reason=self.reason,
            usage=self.done.usage,
            money=exchange.money,
            seconds=time.monotonic() - began,
            first_seconds=None if self.first is None else self.first - began,
            logprob=_mean(self.logprobs),
            endpoint=step.endpoint,
            place=step.place,
            model=_model(step),
            exchange=exchange.id,
            refused=bool(self.refusal) or self.reason == "content_filter",
            redacted=step.redacted,
            beginnings=self.beginnings,
            probe=self.probe,
        )


def _mean(logprobs: Sequence[float]) -> float | None:
    # Rounding may leave a certain token a hair above 0.
    return min(0.0, math.fsum(logprobs) / len(logprobs)) if logprobs else None


def _beginnings(logprobs: Sequence[TokenLogprob]) -> tuple[tuple[str, float], ...]:
    """The likeliest tokens where the first of these stands; the one that was chosen is among them."""
    if not logprobs or not logprobs[0].top:
        return ()
    first = logprobs[0]
    told = [(one.text, one.logprob) for one in first.top if math.isfinite(one.logprob)]
    if first.text not in [text for text, _logprob in told] and math.isfinite(first.logprob):
        told.append((first.text, first.logprob))
    return tuple(told)


def _known(logprobs: Sequence[TokenLogprob]) -> list[float]:
    return [one.logprob for one in logprobs if math.isfinite(one.logprob)]


def _all_of(lines: Sequence[_Line]) -> frozenset[str]:
    """The capabilities that all of them have."""
    first, *others = (frozenset[str](card.capabilities) for _step, card, _offer in lines)
    return first.intersection(*others)


def _all_can(lines: Sequence[_Line], what: str) -> bool:
    return all(what in card.capabilities for _step, card, _offer in lines)


def _model(step: Step) -> str:
    """The digest of a model here, with its adapter's; a vendor's own name of one elsewhere."""
    if step.model_digest:
        return f"{step.model_digest}+{step.adapter_digest}" if step.adapter else step.model_digest
    return step.upstream or step.model
