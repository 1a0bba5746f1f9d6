"""The hall's door: who asks, what may answer, and the exchange that is opened for it.

Not here: how an answer comes about (`exchange`, `attempts`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from daulat import policy, route
from daulat.endpoints import Counting, Endpoint
from daulat.errors import (
    AuthenticationError,
    ModelNotFoundError,
    UnavailableError,
)
from daulat.flow.attempt import price_of
from daulat.flow.attempts import Attempts
from daulat.flow.audits import Audits
from daulat.flow.auto import AUTO, Auto, Label, Ruling, changed, is_auto, only_chats
from daulat.flow.books import Account, ExchangeBooks
from daulat.flow.breakers import Breakers, Health
from daulat.flow.exchange import Exchange
from daulat.flow.guarding import Guard, Guarded, refusal
from daulat.flow.metering import size
from daulat.flow.naming import Naming
from daulat.flow.setup import Setup
from daulat.flow.texts import texts
from daulat.models.adapters import AdapterEntry
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.record import Record, charges, new_id
from daulat.record.keys import Keys
from daulat.record.transcript import AUDITING, opened
from daulat.route import Target
from daulat.values.plan import (
    NO_LIMITS,
    THIS_MACHINE,
    Caller,
    EndpointCard,
    Offer,
    Plan,
    Step,
)
from daulat.values.request import ChatRequest, Request

_UNLABELLED: Final = Label()

Answering = tuple[EndpointCard, Offer | None]
"""An endpoint with its model; None: the model is one of the catalogue's."""


class Hall:
    """What every request walks through.

    Args:
        endpoints: by name, in the order in which they are tried.
        instance: names this process in the record, so that its exchanges are told from another's.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        keys: Keys,
        record: Record,
        endpoints: Mapping[str, Endpoint],
        instance: str,
        setup: Setup | None = None,
        auto: Auto | None = None,
    ) -> None:
        self.record = record
        self.setup = setup or Setup()
        self.auto = auto or Auto()
        self.audits = Audits(self.auto, record, self.setup.audit_share)
        self.guard = Guard(self.setup.rules, self.setup.detectors)
        self._catalogue = catalogue
        self._keys = keys
        self._endpoints = endpoints
        self._cards = {name: endpoint.card for name, endpoint in endpoints.items()}
        self.naming = Naming(catalogue, self._cards, self.setup.routes)
        self._instance = instance
        self._breakers = Breakers()

    def lines(self) -> dict[tuple[str, str], Health]:
        """The health of every model that an endpoint elsewhere offers, and of what has failed here."""
        offered = ((card.name, model) for card in self._cards.values() for model in card.offers)
        health: dict[tuple[str, str], Health] = dict.fromkeys(offered, "closed")
        for name, state in self._breakers.states(time.monotonic()).items():
            endpoint, _, model = name.partition("/")
            health[endpoint, model] = state
        return health

    async def identify(self, secret: str | None) -> Caller:
        """Who holds this key.

        Raises:
            AuthenticationError: no key, or one that is not known, was revoked, or has expired.
        """
        caller = await self._known(secret) if secret else None
        if caller is None:
            raise AuthenticationError(
                "This needs a key: send the header 'Authorization: Bearer daulat-...'. "
                "`daulat keys create` makes one."
            )
        return caller

    async def _known(self, secret: str) -> Caller | None:
        return self._keys.remembered(secret) or await asyncio.to_thread(self._keys.identify, secret)

    def models(self, caller: Caller) -> tuple[ModelEntry, ...]:
        """What the caller may ask for of this machine's models."""
        return tuple(e for e in self._catalogue.entries() if policy.may_use(caller, e.name))

    def adapters(self, caller: Caller) -> tuple[AdapterEntry, ...]:
        """The adapters that the caller may ask for."""
        every = self._catalogue.adapters.entries()
        return tuple(e for e in every if policy.may_use(caller, e.id))

    def elsewhere(self, caller: Caller) -> tuple[tuple[str, tuple[Answering, ...]], ...]:
        """Names that stand for something elsewhere and that the caller may ask for, each with what answers it
        in order. What the lock closes is not there."""
        names = (*self.auto.names, *route.names(self.setup.routes, self._cards))
        offered = ((n, self._answering(n)) for n in names if policy.may_use(caller, n))
        return tuple((name, answering) for name, answering in offered if answering)

    def _answering(self, name: str) -> tuple[Answering, ...]:
        targets = self.auto.targets(name) if is_auto(name) else self.naming.targets(name)
        found = ((self._cards[t.endpoint], t.model) for t in targets if t.endpoint in self._cards)
        return tuple(
            (card, card.offers.get(model))
            for card, model in found
            if card.place == THIS_MACHINE or not self.setup.rules.lock
        )

    async def open(
        self, caller: Caller, request: Request, declared: str = "", label: Label = _UNLABELLED
    ) -> Exchange:
        """Judge, plan and record a request; what comes back will answer it.

        Args:
            declared: the class that the client gives its texts; empty: none.
            label: what the client says of a request to `daulat/auto`.

        Raises:
            ModelNotFoundError, PermissionDeniedError, UnsupportedFieldError, GuardError: as they say.
            LimitError, BudgetError: what it may use is not covered.
            RecordError: the record cannot be written, so nothing may be answered.
        """
        policy.check_scope(caller, "ask")
        if not is_auto(request.model):
            policy.must_use(caller, request.model)
            steps = await self.naming.steps(request.model)
            return await self._opened(caller, request, steps, declared)
        policy.must_use(caller, AUTO)
        chat = only_chats(request)
        ruling = self.auto.ruling(chat, label)
        steps = await self._ruled(ruling)
        return await self._opened(caller, ruling.asking(chat), steps, declared, ruling)

    async def other(
        self, caller: Caller, request: Request, declared: str, target: Target, reason: str
    ) -> Exchange:
        """The same request to another model, for an audit: under the same rules, on the same account.

        Raises:
            DaulatError: as `open`.
        """
        steps = [(await self.naming.step(target), 0.0)]
        return await self._opened(caller, request, steps, declared, reason=reason)

    async def _opened(
        self,
        caller: Caller,
        request: Request,
        steps: Sequence[tuple[Step, float]],
        declared: str,
        ruling: Ruling | None = None,
        reason: str = "",
    ) -> Exchange:
        words = texts(request)
        guarded = await self._looked(caller, request, words, steps, declared)
        account = self._account(caller)
        plan = self._plan(request, steps, guarded, account, reason)
        if ruling is not None:
            ruling.planned(plan.steps)
            plan = replace(plan, reason=f"{ruling}; {plan.reason}")
        exchange_id = new_id()
        books = ExchangeBooks(exchange_id, account, self.record, plan.steps[0])
        keep = ruling.judge if ruling is not None and ruling.way == "judging" else None
        attempts = Attempts(plan, self._endpoints, self._breakers, caller, books, keep)
        exchange = Exchange(
            exchange_id,
            request,
            attempts,
            books,
            self.guard,
            guarded,
            size(words),
            self._endpoints,
            account,
            ruling,
            self._audits(caller, request, guarded.data_class),
        )
        limit = exchange.most(attempts.first)
        body, contents = opened(
            request, caller, plan, self._instance, guarded.data_class, guarded.found, declared
        )
        writing = self.record.add(
            "exchange.opened",
            exchange_id,
            body,
            contents,
            wish=books.wish(0, attempts.first, limit),
            ahead=True,
        )
        await self._written(writing, exchange)
        return exchange

    async def answering(
        self, caller: Caller, name: str
    ) -> tuple[tuple[Step, EndpointCard, Offer | None], ...]:
        """What may answer to a name, in order, whether or not the policy lets it hear a given text.

        Raises:
            ModelNotFoundError, PermissionDeniedError: as they say.
        """
        policy.must_use(caller, name)
        steps = [step for step, _weight in await self.naming.steps(name)]
        cards = [self._cards[step.endpoint] for step in steps]
        return tuple((s, c, c.offers.get(s.model)) for s, c in zip(steps, cards, strict=True))

    async def _ruled(self, ruling: Ruling) -> list[tuple[Step, float]]:
        """The certificate's models in the order in which they are asked; what has changed makes it void.

        Raises:
            ModelNotFoundError: neither of them is here any more.
        """
        steps: list[Step] = []
        missing: ModelNotFoundError | None = None
        for target in ruling.targets:
            try:
                steps.append(await self.naming.step(target))
            except ModelNotFoundError as error:
                missing = error
                self._void(ruling, f"{target.endpoint}/{target.model} is not here")
        if missing is not None and not steps:
            raise missing
        if why := changed(ruling.rule, steps):
            self._void(ruling, why)
        place = {(t.endpoint, t.model): at for at, t in enumerate(ruling.targets)}
        steps.sort(key=lambda step: place[step.endpoint, step.model_id])
        return [(step, 0.0) for step in steps]

    def _void(self, ruling: Ruling, why: str) -> None:
        ruling.void(why)
        self.auto.void(ruling.rule.certificate, why)

    def _audits(
        self, caller: Caller, request: Request, declared: str
    ) -> Callable[[str, Ruling, str], None]:
        """What hears of an answer that was given under a certificate."""

        def heard(exchange_id: str, ruling: Ruling, answer: str) -> None:
            async def other() -> Exchange:
                reason = f"{AUDITING}{exchange_id}"
                return await self.other(caller, request, declared, ruling.rule.closed, reason)

            self.audits.heard(exchange_id, ruling, answer, other)

        return heard

    async def count(self, caller: Caller, request: ChatRequest) -> int | None:
        """The prompt's tokens as the endpoint counts that would answer; None: it cannot tell.

        Nothing is answered and nothing leaves the house, so nothing is recorded.

        Raises:
            ModelNotFoundError, PermissionDeniedError: as they say.
        """
        policy.check_scope(caller, "ask")
        policy.must_use(caller, request.model)
        if is_auto(request.model):
            return None
        step = (await self.naming.steps(request.model))[0][0]
        endpoint = self._endpoints[step.endpoint]
        return await endpoint.count(request, step) if isinstance(endpoint, Counting) else None

    async def _written(
        self, writing: asyncio.Future[charges.Refusal | None], exchange: Exchange
    ) -> None:
        """Wait until the exchange is on disk; if nobody waits any more, it is closed when it is there."""
        try:
            result = await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(exchange.forsake)
            raise
        if isinstance(result, charges.Refusal):
            raise charges.refused(result, self.setup.currency)

    # --- judging and planning -----------------------------------------------------------------------

    async def _looked(
        self,
        caller: Caller,
        request: Request,
        words: Sequence[str],
        steps: Sequence[tuple[Step, float]],
        declared: str,
    ) -> Guarded:
        project = self.setup.classes.get(caller.project, "")
        places = {step.place for step, _ in steps}
        return await self.guard.look(caller, request, words, places, declared, project)

    def _plan(
        self,
        request: Request,
        steps: Sequence[tuple[Step, float]],
        guarded: Guarded,
        account: Account,
        reason: str = "",
    ) -> Plan:
        """The permitted steps that can honour the request, in their order.

        Raises:
            PermissionDeniedError: none is permitted.
            UnsupportedFieldError: none can.
            UnavailableError: a budget holds, and of none it is known what it costs.
        """
        judged = guarded.judgements
        allowed = [(s, w) for s, w in steps if judged[s.place].verdict != "refused"]
        if not allowed:
            raise refusal(guarded, [step.place for step, _ in steps])
        able = route.able(request, [self._cards[step.endpoint] for step, _ in allowed])
        names = {card.name for card in able}
        good = [(_marked(s, judged), w) for s, w in allowed if s.endpoint in names]
        good = self._priced(good) if account.money_matters else good
        route_ = self.setup.routes.get(request.model)
        weighted = all(weight > 0 for _, weight in good)
        return route.plan(
            [step for step, _ in good],
            reason or _reason(request.model, len(steps), len(good), route_ is not None),
            [weight for _, weight in good] if weighted else (),
            route_.hedge if route_ else 0.0,
            _RANDOM,
        )

    def _priced(self, steps: Sequence[tuple[Step, float]]) -> list[tuple[Step, float]]:
        """The steps of which it is known what they cost.

        Raises:
            UnavailableError: there are none.
        """
        priced = [(s, w) for s, w in steps if price_of(self._cards[s.endpoint], s) is not None]
        if not priced:
            first = steps[0][0]
            raise UnavailableError(
                f"A budget holds for this key, and nobody said what {first.model} costs at "
                f"{first.endpoint}. Set its prices in [endpoints.{first.endpoint}.prices]."
            )
        return priced

    def _account(self, caller: Caller) -> Account:
        project = self.setup.projects.get(caller.project, NO_LIMITS)
        return Account(charges.accounts(caller, project, self.setup.house), self.setup.currency)


_RANDOM: Callable[[], float] = random.random


def _marked(step: Step, judged: Mapping[str, policy.Judgement]) -> Step:
    if judged[step.place].verdict != "redacted":
        return step
    return replace(step, redacted=True)


def _reason(name: str, asked: int, left: int, routed: bool) -> str:
    what = f"the route {name}" if routed else "the model was named in the request"
    gone = asked - left
    return what if not gone else f"{what}; {gone} of {asked} endpoints may not or cannot answer it"
