"""Rules replayed over recorded traffic: a real hall before scripted upstreams, its record, and exact money."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Answer, Script, Upstream
from daulat.errors import DaulatError, NotFoundError, RequestError
from daulat.evaluate.audited import agreement
from daulat.evaluate.directory import Directory
from daulat.evaluate.recorded import Wanted, recorded
from daulat.evaluate.replaying import Replayed, Replaying, named
from daulat.evaluate.traffic import Audit, Heard, Past, Ruled, Traffic, traffic
from daulat.flow.audits import Audits
from daulat.flow.auto import AUTO, Auto
from daulat.policy import Reach, Rules
from daulat.route import Asked, Opinion, Route, Rule, Target
from daulat.route.learning.outcomes import Outcomes
from daulat.route.learning.rules import (
    Always,
    Condition,
    Played,
    RandomShare,
    Written,
    answered,
    parse,
)
from daulat.settings import Prices
from daulat.statistics.samples import Caveat
from daulat.values.answer import Usage
from daulat.values.money import Price, Rates, amount
from daulat.values.plan import EndpointCard, Offer
from daulat.values.request import ChatRequest, Message, Sampling
from tests.flow.halls import Hallway, hallway

OPEN, CLOSED = Target("near", "m"), Target("far", "m")
TABLES: Mapping[str, Mapping[str, Any]] = {
    "near": {"owner": "open", "prices": {"m": Prices(input="0", output="0.5")}},
    "far": {"owner": "closed", "prices": {"m": Prices(input="3", output="15")}},
}


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    says = (
        Script(answers=(Answer("Perhaps it is so, perhaps not."),)),
        Script(answers=(Answer("It is surely so."),)),
    )
    with scripted.running(says[0]) as near, scripted.running(says[1]) as far:
        yield near, far


@pytest.fixture
def made(
    upstreams: tuple[Upstream, Upstream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.setenv("SCRIPTED_KEY", "any")

    @asynccontextmanager
    async def hall(
        routes: Mapping[str, Route] | None = None, **more: Mapping[str, Any]
    ) -> AsyncGenerator[Hallway]:
        urls = dict(zip(TABLES, upstreams, strict=True))
        tables = {
            name: {**table, "url": f"{urls[name].url}/v1", "retries": 0, **more.get(name, {})}
            for name, table in TABLES.items()
        }
        async with hallway(tmp_path / "record.sqlite3", tmp_path, tables, routes=routes) as here:
            yield here

    return hall


async def ask(here: Hallway, text: str, model: str = "near/m", key: str = "k") -> None:
    request = ChatRequest(model, (Message("user", text),), Sampling(max_tokens=20), stream=True)
    exchange = await here.hall.open(replace(here.caller, id=key), request)
    async with aclosing(exchange.events()) as events:
        try:
            async for _event in events:
                pass
        except DaulatError:
            pass


def directory(here: Hallway, rules: Rules | None = None) -> Directory:
    cards = {name: one.card for name, one in here.endpoints.items()}
    return Directory(here.hall.naming.meant, cards, rules or here.hall.setup.rules)


def seen(here: Hallway, **wanted: Any) -> Traffic:
    return traffic(here.record, Wanted(**wanted), "USD")


def booked(here: Hallway, which: str) -> int:
    """What the record says that exchanges of these ids cost, added up by hand."""
    total = 0
    for entry in here.record.entries(kind="exchange.closed"):
        if entry.subject in which:
            total += sum(
                amount(one["cost"].removesuffix(" USD")) for one in entry.body.get("attempts", ())
            )
    return total


# --- real traffic ---------------------------------------------------------------------------------


async def test_what_happened_costs_what_was_booked(made: Any) -> None:
    async with made() as here:
        for number in range(3):
            await ask(here, f"Question {number}?")
        await ask(here, "Question 0?")  # asked again: traffic as well
        await ask(here, "A harder question?", "far/m")
        found = seen(here)
        replaying = Replaying(found, directory(here))
        then = replaying.then()
        every = "".join(past.id for past in found.pasts)
        assert then.exchanges == 5
        assert then.bill.money == then.then == booked(here, every)
        assert then.bill.money > 0
        assert (then.bill.recorded, then.bill.estimated) == (5, 0)
        assert dict(then.asks) == pytest.approx({"near/m": 0.8, "far/m": 0.2})
        assert then.closed == pytest.approx(0.2)
        assert then.seconds is not None
        assert then.agreement.estimate is None
        assert [past.prompt for past in found.pasts][-1] == "A harder question?"


async def test_a_rule_is_recorded_where_it_can_be_and_estimated_elsewhere(made: Any) -> None:
    async with made() as here:
        for number in range(6):
            await ask(here, f"Question {number}?", "far/m" if number % 3 == 0 else "near/m")
        found = seen(here)
        replaying = Replaying(found, directory(here))
        far = replaying.replay(Always("far/m"))
        assert (far.bill.recorded, far.bill.estimated) == (2, 4)
        price = here.endpoints["far"].card.offers["m"].price
        assert price is not None
        expected = sum(
            past.heard[CLOSED].money or 0
            if past.answered == CLOSED
            # Two answers of it are too few for a mean: as long as the answer that was given.
            else price.cost(Usage(past.usage.prompt_tokens, past.usage.completion_tokens))
            for past in found.pasts
        )
        assert far.bill.money == expected
        assert (far.closed, far.seconds) == (1.0, None)
        assert replaying.replay(Always("near/m")).closed == 0


async def test_a_rule_that_does_what_was_done_costs_what_was_paid(
    made: Any, tmp_path: Path
) -> None:
    async with made() as here:
        for number in range(6):
            hard = number % 2
            await ask(here, f"{'hard' if hard else 'easy'} {number}", "far/m" if hard else "near/m")
        replaying = Replaying(seen(here), directory(here))
        rule = Written(
            "rules.toml", ((Condition(contains=("hard",)), Always("far/m")),), Always("near/m")
        )
        then, same = replaying.then(), replaying.replay(rule)
        assert same.bill == then.bill
        assert (same.closed, same.seconds) == (then.closed, then.seconds)
        assert dict(same.asks) == dict(then.asks)


async def test_what_failed_on_the_way_was_asked_too(made: Any) -> None:
    bad = "m+error_500"
    prices = {bad: Prices(input="1", output="1")}
    route = Route((f"near/{bad}", "far/m"))
    async with made({"both": route}, near={"models": (bad,), "prices": prices}) as here:
        await ask(here, "It fails", f"near/{bad}")
        await ask(here, "It falls back", "both")
        found = seen(here)
        assert found.left_out == {"not answered": 1}
        (past,) = found.pasts
        assert past.answered == CLOSED
        (example,) = recorded(here.record, Wanted()).examples
        assert example.fields["answered_by"] == CLOSED.model != bad
        replaying = Replaying(found, directory(here))
        then, far = replaying.then(), replaying.replay(Always("far/m"))
        assert dict(then.asks) == {f"near/{bad}": 1, "far/m": 1}
        assert then.bill.money == booked(here, past.id)
        assert (far.bill.recorded, far.bill.money) == (1, then.bill.money)
        assert far.seconds is None  # what it took has the failure in it


async def test_an_answer_in_two_parts_is_nobodys_alone_and_numbers_have_bounds(made: Any) -> None:
    async with made() as here:
        await ask(here, "Question?", "far/m")
        (opened,) = here.record.entries(kind="exchange.opened")
        (closed,) = here.record.entries(kind="exchange.closed")
        attempt = closed.body["attempts"][0]
        odd = {
            **attempt,
            "cost": "-1 USD",
            "usage": {"prompt_tokens": -5, "completion_tokens": 1e9},
        }
        changes: Mapping[str, Mapping[str, Any]] = {
            "two-parts": {"continued": [{"after": 4, "step": opened.body["plan"]["steps"][0]}]},
            "odd": {"attempts": [odd], "usage": {"prompt_tokens": 10**30}},
        }
        for name, change in changes.items():
            here.record.append(opened.kind, name, opened.body, here.record.contents(opened))
            body = {**closed.body, **change}
            here.record.append(closed.kind, name, body, here.record.contents(closed))
        whole, parts, strange = seen(here).pasts
        assert whole.heard[CLOSED].answer is not None
        assert parts.heard == {}
        assert parts.money == whole.money
        assert (strange.money, strange.heard[CLOSED].usage) == (None, Usage(0, 0))
        assert strange.usage.prompt_tokens == 10**12
        told = Replaying(Traffic((whole, parts), frozenset(), {}), directory(here))
        bill = told.replay(Always("far/m")).bill
        assert (bill.recorded, bill.estimated) == (1, 1)


async def test_names_are_those_of_requests_and_of_what_is_gone(made: Any) -> None:
    async with made() as here:
        await ask(here, "Question?", "near/m")
        replaying = Replaying(seen(here), directory(here))
        assert replaying.target("far/m") == CLOSED
        with pytest.raises(RequestError, match="stands for several models: near/m, far/m"):
            replaying.replay(Always("m"))
        with pytest.raises(NotFoundError, match="answered then are: near/m"):
            replaying.replay(Always("huge"))
        gone = Replaying(seen(here), Directory(lambda _name: (), {}))
        assert gone.replay(Always("m")).bill == gone.then().bill
        lost = gone.then()
        assert (lost.closed, lost.bill.recorded) == (0, 1)


async def test_without_a_price_nothing_is_guessed(made: Any) -> None:
    async with made(far={"prices": {}, "place": "us"}) as here:
        for number in range(2):
            await ask(here, f"Question {number}?")
        replaying = Replaying(seen(here), directory(here))
        far = replaying.replay(parse("always:far/m"))
        assert far.bill.money is None
        assert far.bill.unpriced == (CLOSED,)
        assert replaying.replay(Always("near/m")).bill.unpriced == ()
        # That place is closed to what is internal, where nobody says otherwise.
        strict = Replaying(seen(here), directory(here, Rules(reach={"internal": Reach()})))
        assert strict.replay(Always("far/m")).barred == 2
        assert far.barred == strict.then().barred == 0


async def test_money_of_another_currency_is_not_known(made: Any) -> None:
    async with made() as here:
        await ask(here, "Question?")
        then = Replaying(traffic(here.record, Wanted(), "IDR"), directory(here)).then()
        assert then.bill.money is None
        assert then.bill.recorded == 0


async def test_nothing_to_replay_names_the_next_step(made: Any) -> None:
    async with made() as here:
        with pytest.raises(RequestError, match="daulat up"):
            seen(here)
        await ask(here, "Question?")
        with pytest.raises(RequestError, match="no exchange that can be replayed"):
            seen(here, model="other")
        with pytest.raises(RequestError, match="none in that time"):
            seen(here, since="2999-01-01")
        (opened,) = here.record.entries(kind="exchange.opened")
        here.record.redact(opened.subject, "asked for")
        with pytest.raises(RequestError, match=r"1 contents not kept.*\[record\] of daulat.toml"):
            seen(here)


# --- cascades and audits --------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A cascade that keeps the open answer where the prompt says `easy`."""

    name: str = "cascade"
    endpoints: tuple[str, ...] = ("near/m", "far/m")
    needs: frozenset[str] = frozenset()

    def play(self, outcomes: Outcomes) -> Played:
        easy = np.array(["easy" in prompt for prompt in outcomes.prompts])
        answers = np.stack([easy, ~easy], axis=1).astype(float)
        asks = answers.copy()
        asks[:, 0] = 1.0
        return Played(answers, asks, answered(outcomes, "near/m"))


def certificate(here: Hallway, share: float, loss: Sequence[float] = ()) -> None:
    """`daulat/auto` keeps what says `easy`; of an audited answer, `same` agrees with the closed model's."""

    def opinion(asked: Asked) -> Opinion:
        return Opinion("easy" in asked.prompt, 0.25)

    rule = Rule(
        task="t",
        certificate="sha256:" + "a" * 64,
        mode="cascade",
        open=OPEN,
        closed=CLOSED,
        digests={},
        needs=frozenset(),
        temperature=None,
        opinion=opinion,
        similarity=lambda _prompt: 1.0,
        limit=0.0,
        agrees=lambda _one, _other: next(said),
        loss=0.9,
    )
    said = iter(not one for one in loss)
    coins = iter(np.linspace(0, 0.999, 50).tolist())
    here.hall.auto = Auto((rule,))
    here.hall.audits = Audits(here.hall.auto, here.record, share, lambda: next(coins))
    here.hall.audits.restore({rule.certificate: rule})


async def test_audits_are_no_traffic_but_say_how_good_it_was(made: Any) -> None:
    async with made() as here:
        certificate(here, 1.0, loss=[0, 1, 0, 0])
        for number in range(6):
            await ask(here, f"{'easy' if number < 4 else 'hard'} question {number}", AUTO)
            await here.hall.audits.settle()
        found = seen(here)
        assert len(found.pasts) == len(recorded(here.record, Wanted()).examples) == 6
        replaying = Replaying(found, directory(here))
        then = replaying.then()
        assert then.closed == pytest.approx(2 / 6)
        assert dict(then.asks) == pytest.approx({"near/m": 1.0, "far/m": 2 / 6})
        assert then.agreement.audits == 4
        assert then.agreement.exchanges == 6
        assert then.agreement.estimate is not None
        assert then.agreement.estimate.value == pytest.approx(5 / 6)
        assert 0 < then.agreement.estimate.low < 5 / 6 < then.agreement.estimate.high <= 1

        # Both answers of every audited exchange are recorded, and what they cost.
        far = replaying.replay(Always("far/m"))
        assert (far.bill.recorded, far.bill.estimated) == (6, 0)
        assert far.agreement.estimate is not None
        assert far.agreement.estimate.value == far.agreement.estimate.low == 1.0
        near = replaying.replay(Always("near/m"))
        assert near.agreement.estimate is None
        assert near.agreement.unknown == 2  # what was not kept was never held against anything


async def test_a_cascade_leaves_out_what_it_cannot_see(made: Any) -> None:
    async with made() as here:
        certificate(here, 0.0)
        for number in range(5):
            await ask(here, f"{'easy' if number < 2 else 'hard'} question {number}", AUTO)
        await ask(here, "an easy one for the closed model", "far/m")
        replaying = Replaying(seen(here), directory(here))
        told = replaying.replay(Kept())
        # The open answers that were thrown away are not in the record, nor one that was never asked for.
        assert (told.exchanges, told.unseen, told.lacking) == (2, 4, 0)
        assert told.bill.money == told.then
        assert told.closed == 0
        needy = Kept(needs=frozenset(["category"]))
        with pytest.raises(RequestError, match=r"does not have \(category\).*daulat task add"):
            replaying.replay(needy)


# --- properties -----------------------------------------------------------------------------------

_TARGETS = (OPEN, CLOSED, Target("other", "n"))
_PRICES = {
    OPEN: Price(Rates(0, 500_000, 0, 0)),
    CLOSED: Price(Rates(2_500_001, 10_000_003, 2_500_001, 2_500_001), request=7),
    _TARGETS[2]: Price(Rates(1, 3, 1, 1)),
}


def here_is(*priced: Target) -> Directory:
    def card(target: Target) -> EndpointCard:
        offer = Offer(target.model, target.model, _PRICES[target] if target in priced else None)
        owner = "closed" if target == CLOSED else "open"
        return EndpointCard(target.endpoint, "us", owner, {target.model: offer})

    cards = {target.endpoint: card(target) for target in _TARGETS}
    return Directory(lambda name: tuple(t for t in _TARGETS if named(t) == name), cards)


@st.composite
def pasts(draw: st.DrawFn, longest: int = 10**6) -> list[Past]:
    found: list[Past] = []
    for number in range(draw(st.integers(1, 8))):
        who = draw(st.sampled_from(_TARGETS))
        usage = Usage(draw(st.integers(1, 10**6)), draw(st.integers(min(100, longest), longest)))
        money = draw(st.integers(0, 10**30))
        heard = {who: Heard(usage, money, "said")}
        asked, total = frozenset([who]), money
        found.append(
            Past(
                *(str(number), f"2026-01-0{number + 1}T00:00:00Z", f"prompt {number}"),
                *(draw(st.sampled_from("abc")), "", who, asked, heard, usage, total),
                draw(st.floats(0, 100)),
            )
        )
    return found


def replaying(found: Sequence[Past], here: Directory | None = None) -> Replaying:
    return Replaying(Traffic(tuple(found), frozenset(), {}), here or here_is(*_TARGETS))


def as_done(found: Sequence[Past]) -> Written:
    """A rule that asks whom was asked then, by the prompt."""
    rules = [(Condition(contains=(past.prompt,)), Always(named(past.answered))) for past in found]
    return Written("as done", tuple(rules), Always("near/m"))


@settings(max_examples=60, deadline=None)
@given(pasts())
def test_to_do_what_was_done_costs_exactly_that(found: list[Past]) -> None:
    them = replaying(found)
    then, same = them.then(), them.replay(as_done(found))
    assert same.bill.money == then.bill.money == sum(past.money or 0 for past in found)
    assert same.bill == then.bill
    assert same.closed == pytest.approx(then.closed)
    assert same.seconds == then.seconds


@settings(max_examples=60, deadline=None)
@given(pasts(), st.randoms(use_true_random=False), st.floats(0, 1))
def test_the_order_of_exchanges_does_not_matter(
    found: list[Past], lots: random.Random, share: float
) -> None:
    mixed = [*found]
    lots.shuffle(mixed)
    for rule in (Always("far/m"), RandomShare("near/m", "far/m", share), as_done(found)):
        one, other = replaying(found).replay(rule), replaying(mixed).replay(rule)
        assert figures(one) == figures(other)
    assert figures(replaying(found).then()) == figures(replaying(mixed).then())


def figures(one: Replayed) -> tuple[Any, ...]:
    asks = {name: round(share, 9) for name, share in one.asks}
    return one.bill.money, one.bill.estimated, round(one.closed, 9), one.then, one.seconds, asks


@settings(max_examples=60, deadline=None)
@given(pasts(longest=100), pasts(longest=100))
def test_costs_add_up(some: list[Past], more: list[Past]) -> None:
    # Mean lengths are those of a whole traffic, so what is estimated adds up where they are the same.
    others = [replace(past, id=f"+{past.id}") for past in more]
    for rule in (Always("far/m"), RandomShare("near/m", "far/m", 0.25)):
        whole = replaying([*some, *others])
        parts = [replaying(one) for one in (some, others)]
        told = [part.replay(rule).bill for part in parts]
        together = whole.replay(rule).bill
        sums = sum(one.money or 0 for one in told)
        # A sum of shares is rounded once, at its end.
        assert abs((together.money or 0) - sums) <= (1 if isinstance(rule, RandomShare) else 0)
        assert together.estimated == sum(one.estimated for one in told)
        assert together.recorded + together.estimated == len(some) + len(others)


@settings(max_examples=40, deadline=None)
@given(pasts())
def test_no_price_no_figure(found: list[Past]) -> None:
    told = replaying(found, here_is(OPEN)).replay(Always("far/m")).bill
    unknown = any(past.answered != CLOSED for past in found)
    assert (told.money is None) == unknown
    assert told.unpriced == ((CLOSED,) if unknown else ())


# --- how audits weigh -----------------------------------------------------------------------------


def audits(
    n: int, share: float, lossy: float, seed: int, *, second: float | None = None
) -> list[Past]:
    """Exchanges under a certificate: a third escalated; some others audited, some of these differ."""
    drawn = random.Random(seed)
    found: list[Past] = []
    for number in range(n):
        kept = drawn.random() < 2 / 3
        chance = second if second is not None and number % 2 else share
        loss = float(drawn.random() < (lossy if not number % 2 else lossy / 4))
        looked = kept and drawn.random() < chance
        who = OPEN if kept else CLOSED
        found.append(
            Past(
                *(str(number), "2026-01-01T00:00:00Z", "prompt", str(number), "", who),
                *(frozenset([who]), {}, Usage(1, 1), 0, 1.0),
                Ruled("sha256:x", "kept" if kept else "escalated", True, True, OPEN, CLOSED),
                Audit(chance, loss) if looked else None,
            )
        )
    return found


def of_then(found: Sequence[Past]) -> Any:
    opens = np.array([past.answered == OPEN for past in found], float)
    return agreement(found, opens, 1 - opens)


def test_chances_that_differ_are_weighed() -> None:
    """Where what is looked at more often is what differs more often, plain means would be wrong."""
    means, plain, held = [], [], 0
    truth = 1 - 2 / 3 * (0.4 + 0.1) / 2
    for seed in range(60):
        found = audits(1200, 0.5, 0.4, seed, second=0.1)
        told = of_then(found).estimate
        assert told is not None
        means.append(told.value)
        held += told.low <= truth <= told.high
        losses = [past.audit.loss for past in found if past.audit]
        plain.append(1 - 2 / 3 * np.mean(losses))
    assert np.mean(means) == pytest.approx(truth, abs=0.01)
    assert abs(np.mean(plain) - truth) > 0.04
    assert held >= 52  # of 60 intervals of 95 %: fewer has a chance below 1 in 10,000


def test_no_loss_among_few_audits_is_no_certainty() -> None:
    found = audits(3000, 0.01, 0.0, 5)
    told = of_then(found)
    assert told.estimate.value == 1.0
    assert told.audits < 40
    # Twenty-odd audits without a loss leave room for a tenth, whatever the number of exchanges.
    assert told.estimate.low < 1 - 2 / 3 * 2 / told.audits


def test_one_audit_says_next_to_nothing_and_none_says_nothing() -> None:
    found = [replace(past, audit=None) for past in audits(30, 1.0, 0.0, 1)]
    assert of_then(found) == type(of_then(found))(None, 0, 0, 0)
    at = next(i for i, past in enumerate(found) if past.answered == OPEN)
    found[at] = replace(found[at], audit=Audit(0.5, 1.0))
    told = of_then(found).estimate
    assert told is not None
    assert told.caveat in (Caveat.SINGLE, Caveat.NONE)
    assert told.high - told.low > 0.3
    found[at] = replace(found[at], audit=Audit(0.5, None))
    assert of_then(found).estimate is None
