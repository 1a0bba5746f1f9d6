"""Replaying a rule over recorded traffic: what it would have cost and delivered, beside what really happened.

A rule decides by the very code that replays outcome files. What the record does not know is not guessed: an
exchange whose answer a cascade would have to see is left out of that rule and counted; what it would have cost
to ask somebody else is estimated, and counted as that. Not here: reading the record (`traffic`), quality
(`audited`), rules (`route.learning.rules`, `following`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daulat.errors import NotFoundError, RequestError
from daulat.evaluate.audited import Agreement, agreement
from daulat.evaluate.directory import Directory
from daulat.evaluate.estimating import ENOUGH
from daulat.evaluate.following import Followed
from daulat.evaluate.traffic import Past, Traffic
from daulat.route import Target
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.route.learning.rules import Played, Rule
from daulat.values.answer import Usage

ALONE: Final = 8
"""So many of the endpoints that answered are looked at alone."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What some exchanges cost.

    Attributes:
        money: in `values.money`'s amounts; None: of some it is not known.
        recorded, estimated: of so many exchanges all is recorded, or something is estimated; of the others it
            is not known.
        unpriced: endpoints of which nobody says what they cost.
    """

    money: int | None
    recorded: int
    estimated: int = 0
    unpriced: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a rule would have done, or, without a name, what was done.

    Attributes:
        exchanges: that it was replayed over.
        unseen: left out, since it goes by an answer that the record does not have.
        lacking: left out, since it goes by something else that the record does not have; `needs`: what.
        asks: the share that each endpoint is asked.
        closed: the share that a closed model answers.
        barred: exchanges of a class that the policy, as it is now, keeps from an endpoint that is asked.
        then: what those exchanges cost as they were answered; None: not known.
        seconds: median; None: not known of all.
    """

    rule: str
    exchanges: int
    unseen: int
    lacking: int
    needs: tuple[str, ...]
    asks: tuple[tuple[str, float], ...]
    closed: float
    barred: int
    bill: Bill
    then: int | None
    seconds: float | None
    agreement: Agreement


class Replaying:
    """Replays rules over one traffic."""

    def __init__(self, traffic: Traffic, directory: Directory) -> None:
        self._traffic = traffic
        self._directory = directory
        self._lengths = _lengths(traffic.pasts)

    def then(self) -> Replayed:
        """What really happened."""
        pasts = self._traffic.pasts
        targets = sorted({target for past in pasts for target in past.asked}, key=named)
        place = {target: at for at, target in enumerate(targets)}
        answers, asks = np.zeros((2, len(pasts), len(targets)))
        for row, past in enumerate(pasts):
            answers[row, place[past.answered]] = 1.0
            asks[row, [place[target] for target in past.asked]] = 1.0
        known = sum(past.money is not None for past in pasts)
        bill = Bill(_total(pasts), known)
        names = tuple(map(named, targets))
        return self._told("", pasts, names, targets, (answers, asks), bill)

    def replay(self, rule: Rule) -> Replayed:
        """What a rule would have done.

        Raises:
            NotFoundError: it names something that is neither here nor in the traffic.
            RequestError: it names several models at once, or can decide about no exchange.
        """
        targets = tuple(map(self.target, rule.endpoints))
        table = _table(self._traffic.pasts, rule.endpoints, targets)
        played, able = _played(rule, table, self._traffic.pasts)
        rows = np.flatnonzero(able & played.seen)
        needs = tuple(sorted(rule.needs))
        if not len(rows):
            raise _undecided(rule, needs if not able.any() else ())
        pasts = [self._traffic.pasts[i] for i in rows]
        shares = (played.answers[rows], played.asks[rows])
        bill = self._bill(pasts, targets, shares[1])
        lacking = int((~able).sum())
        unseen = len(able) - lacking - len(rows)
        return self._told(
            rule.name, pasts, rule.endpoints, targets, shares, bill, unseen, lacking, needs
        )

    def alone(self, rules: Sequence[Rule]) -> tuple[str, ...]:
        """Endpoints to look at alone: those that rules name, each once; without any, those that answered.

        Raises:
            NotFoundError, RequestError: as `target`.
        """
        found: dict[Target, str] = {}
        for name in (name for rule in rules for name in rule.endpoints):
            found.setdefault(self.target(name), name)
        return tuple(found.values()) or tuple(map(named, self._traffic.targets()[:ALONE]))

    def target(self, name: str) -> Target:
        """The one model that a name stands for, here or in the traffic.

        Raises:
            NotFoundError: none.
            RequestError: several.
        """
        found = self._directory.meant(name) or self._remembered(name)
        if len(found) == 1:
            return found[0]
        if found:
            every = ", ".join(map(named, found))
            raise RequestError(
                f"{name[:80]!r} stands for several models: {every}. Name one of them.", param="rule"
            )
        there = ", ".join(map(named, self._traffic.targets()[:20]))
        raise NotFoundError(
            f"There is no endpoint {name[:80]!r}, neither in daulat.toml and among the models here nor in this "
            f"traffic. Those that answered then are: {there}."
        )

    def _remembered(self, name: str) -> tuple[Target, ...]:
        """What a name stands for of those that answered and are not here any more."""
        return tuple(t for t in self._traffic.targets() if name in (named(t), t.model))

    def _told(
        self,
        rule: str,
        pasts: Sequence[Past],
        names: Sequence[str],
        targets: Sequence[Target],
        shares: tuple[FloatArray, FloatArray],
        bill: Bill,
        unseen: int = 0,
        lacking: int = 0,
        needs: tuple[str, ...] = (),
    ) -> Replayed:
        answers, asks = shares
        closed = np.array([self._closed(target) for target in targets], bool)
        return Replayed(
            rule=rule,
            exchanges=len(pasts),
            unseen=unseen,
            lacking=lacking,
            needs=needs if lacking else (),
            asks=tuple(zip(names, map(float, asks.mean(axis=0)), strict=True)),
            closed=float(answers[:, closed].sum(axis=1).mean()),
            barred=self._barred(pasts, targets, asks),
            bill=bill,
            then=_total(pasts),
            seconds=_seconds(pasts, targets, asks),
            agreement=agreement(pasts, *_under(pasts, targets, answers)),
        )

    def _closed(self, target: Target) -> bool:
        card = self._directory.cards.get(target.endpoint)
        return target in self._traffic.closed if card is None else card.owner == "closed"

    def _barred(self, pasts: Sequence[Past], targets: Sequence[Target], asks: FloatArray) -> int:
        bars = self._directory.bars
        rows = zip(pasts, asks.tolist(), strict=True)
        return sum(
            any(
                share > 0 and bars(t, past.data_class)
                for t, share in zip(targets, row, strict=True)
            )
            for past, row in rows
        )

    # --- money ------------------------------------------------------------------------------------

    def _bill(self, pasts: Sequence[Past], targets: Sequence[Target], asks: FloatArray) -> Bill:
        """Sums are exact, also of shares: nothing is rounded before the last figure."""
        total, recorded, estimated = Fraction(0), 0, 0
        unpriced: dict[Target, None] = {}
        for past, row in zip(pasts, asks.tolist(), strict=True):
            exact, known = True, True
            for target, share in zip(targets, row, strict=True):
                if share <= 0:
                    continue
                cost, booked = self._cost(past, target)
                exact, known = exact and booked, known and cost is not None
                if cost is None:
                    unpriced[target] = None
                else:
                    total += Fraction(share) * cost
            recorded += exact
            estimated += known and not exact
        money = None if unpriced else round(total)
        return Bill(money, recorded, estimated, tuple(unpriced))

    def _cost(self, past: Past, target: Target) -> tuple[int | None, bool]:
        """What it cost, or would have cost, to ask; and whether that is recorded."""
        heard = past.heard.get(target)
        if heard is not None and heard.money is not None:
            return heard.money, True
        price = self._directory.price(target)
        if price is None:
            return None, False
        if heard is not None:
            return price.cost(heard.usage), False
        length = self._lengths.get(target, past.usage.completion_tokens)
        return price.cost(Usage(past.usage.prompt_tokens, length)), False


def named(target: Target) -> str:
    """As requests name that model and no other."""
    return f"{target.endpoint}/{target.model}"


def _lengths(pasts: Sequence[Past]) -> dict[Target, int]:
    """Tokens of a mean answer, rounded up, of endpoints that answered often enough."""
    found: defaultdict[Target, list[int]] = defaultdict(list)
    for past in pasts:
        for target, heard in past.heard.items():
            found[target].append(heard.usage.completion_tokens)
    return {t: -(-sum(all_) // len(all_)) for t, all_ in found.items() if len(all_) >= ENOUGH}


def _total(pasts: Sequence[Past]) -> int | None:
    known = [past.money for past in pasts if past.money is not None]
    return sum(known) if len(known) == len(pasts) else None


# --- deciding -------------------------------------------------------------------------------------


def _table(pasts: Sequence[Past], names: tuple[str, ...], targets: Sequence[Target]) -> Outcomes:
    """The traffic as a rule sees it: prompts, and the answers that are known."""
    unknown = np.full((len(pasts), len(names)), np.nan)
    return Outcomes(
        endpoints=names,
        ids=tuple(past.id for past in pasts),
        prompts=tuple(past.prompt for past in pasts),
        answers=tuple(tuple(_answer(past, target) for target in targets) for past in pasts),
        scores=unknown,
        costs=unknown,
        seconds=unknown,
        categories=("",) * len(pasts),
        clusters=tuple(past.cluster for past in pasts),
        logprobs=unknown,
        samples=tuple(((),) * len(names) for _past in pasts),
        probes=tuple(((),) * len(names) for _past in pasts),
    )


def _answer(past: Past, target: Target) -> str | None:
    heard = past.heard.get(target)
    return None if heard is None else heard.answer


def _played(rule: Rule, table: Outcomes, pasts: Sequence[Past]) -> tuple[Played, NDArray[np.bool_]]:
    """What a rule does, and where the record has all that it goes by beside answers.

    What a certificate said of a request then stands, since the record has it.
    """
    played = rule.play(table)
    able = np.full(len(pasts), not rule.needs)
    if not isinstance(rule, Followed):
        return played, able
    digest, cascade = rule.certificate.digest(), rule.certificate.mode == "cascade"
    for row, past in enumerate(pasts):
        if past.ruled is None or past.ruled.certificate != digest or not past.ruled.judged:
            continue
        kept = past.ruled.way == "kept"
        played.answers[row] = played.asks[row] = (kept, not kept)
        played.asks[row, 0] = kept or cascade
        played.seen[row] = able[row] = True
    return played, able


def _undecided(rule: Rule, needs: Sequence[str]) -> RequestError:
    if needs:
        what = f"goes by what the record does not have ({', '.join(needs)})"
    else:
        what = (
            f"goes by answers of {rule.endpoints[0]}, and the record has none of these exchanges'"
        )
    return RequestError(
        f"{rule.name} {what}: there is nothing to replay it over. Make a task of the traffic and ask the "
        "endpoints: `daulat task add NAME --from-record`, `daulat compare NAME`.",
        param="rule",
    )


# --- figures --------------------------------------------------------------------------------------


def _under(
    pasts: Sequence[Past], targets: Sequence[Target], answers: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """float64 [n], twice: the share of the open and of the closed model of the certificate it was under."""
    found = np.zeros((2, len(pasts)))
    for row, past in enumerate(pasts):
        if past.ruled is not None:
            pair = (past.ruled.open, past.ruled.closed)
            for which, wanted in enumerate(pair):
                mine = [at for at, target in enumerate(targets) if target == wanted]
                found[which, row] = answers[row, mine].sum()
    return found[0], found[1]


def _seconds(pasts: Sequence[Past], targets: Sequence[Target], asks: FloatArray) -> float | None:
    """The median, where exactly those are asked that were asked then."""
    for past, row in zip(pasts, asks.tolist(), strict=True):
        asked = frozenset(t for t, share in zip(targets, row, strict=True) if share > 0)
        if asked != past.asked or not all(share in (0, 1) for share in row):
            return None
    return median(past.seconds for past in pasts)
