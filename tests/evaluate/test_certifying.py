"""From outcomes to certificates: what is promised is kept, whatever the table looks like."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from certified import CLOSED, OPEN, Reader, drawn, outcomes, read_off
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.errors import DataError, NotFoundError, RequestError
from daulat.evaluate.certifying import Certified, Demand, Window, make
from daulat.evaluate.forecasting import forecast
from daulat.evaluate.routers import fitter
from daulat.evaluate.splitting import FEWEST, split
from daulat.evaluate.thresholds import (
    ALL_CLOSED,
    ALL_OPEN,
    Bets,
    Exact,
    Pairs,
    certify,
    chosen_test,
    thresholds,
)
from daulat.route.certificate import Identity
from daulat.route.learning.outcomes import Outcomes

ALPHA = 0.05
TESTED = thresholds(Reader().stops(), np.linspace(0, 1, 500))
WINDOW = Window("work", "work.jsonl")


def made(table: Outcomes, fit: Any = read_off, **asked: Any) -> Certified:
    return make(table, Demand(OPEN, CLOSED, **asked), fit, WINDOW)


# --- the parts ------------------------------------------------------------------------------------


def prompts_of(table: Outcomes, rows: np.ndarray) -> set[str]:
    return {table.prompts[row] for row in rows}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(0, 20))
def test_the_order_of_the_file_makes_no_difference(seed: int, mixed: int) -> None:
    table = drawn(150)
    order = np.random.default_rng(mixed).permutation(150)
    one, other = (
        split(table, seed=seed, labels=100),
        split(table.take(order), seed=seed, labels=100),
    )
    for part in ("train", "calibrate", "audit"):
        before, after = getattr(one, part), order[getattr(other, part)]
        assert before.tolist() == after.tolist()


def test_a_prompt_counts_once_and_a_cluster_stays_together() -> None:
    scores = np.random.default_rng(0).integers(0, 2, (300, 2)).astype(float)
    copies = split(outcomes(scores, [f"prompt {i % 120}" for i in range(300)]), seed=0, labels=None)
    assert copies.repeated == 180
    assert len(copies.train) + len(copies.calibrate) + len(copies.audit) == 120
    table = outcomes(scores, clusters=[f"doc {i // 7}" for i in range(300)])
    parts = split(table, seed=1, labels=None)
    where = [
        {table.clusters[i] for i in part} for part in (parts.train, parts.calibrate, parts.audit)
    ]
    assert not where[0] & where[1]
    assert not where[1] & where[2]
    assert not where[0] & where[2]
    assert parts.clustered
    assert parts.largest == 7


def test_labels_and_audit_are_what_was_asked_for() -> None:
    table = drawn(500)
    parts = split(table, seed=0, labels=200)
    assert [len(one) for one in (parts.train, parts.calibrate, parts.audit)] == [80, 120, 300]
    parts = split(table, seed=0, labels=None, audit=0.2)
    assert [len(one) for one in (parts.train, parts.calibrate, parts.audit)] == [160, 240, 100]


def test_what_lacks_a_score_is_set_aside() -> None:
    table = drawn(200)
    scores = table.scores.copy()
    scores[::4, 0] = np.nan
    parts = split(replace(table, scores=scores), seed=0, labels=None)
    used = np.concatenate([parts.train, parts.calibrate, parts.audit])
    assert not np.isnan(scores[used]).any()
    assert sorted(parts.unscored.tolist()) == list(range(0, 200, 4))
    twice = outcomes([[np.nan, 1.0], [1.0, 0.0]] * 100, [f"p{i // 2}" for i in range(200)])
    parts = split(twice, seed=0, labels=None)
    assert len(parts.unscored) == 0, "of two copies the scored one counts"


def test_too_few_say_how_many_are_needed() -> None:
    with pytest.raises(DataError, match=r"Only 3 different prompts.*some hundreds"):
        made(drawn(3))
    with pytest.raises(DataError, match="47 more are the same prompts again"):
        made(outcomes(np.ones((50, 2)), ["one", "two", "three"] + ["one"] * 47))
    with pytest.raises(DataError, match="With 10 labels nothing"):
        made(drawn(100), labels=10)
    with pytest.raises(DataError, match="in many clusters"):
        made(outcomes(np.ones((100, 2)), clusters=["one"] * 100))
    assert FEWEST == 20


# --- thresholds -----------------------------------------------------------------------------------


def pairs(n: int, seed: int, groups: bool = False, graded: bool = False) -> Pairs:
    table = drawn(n, seed, graded=graded)
    own = np.arange(n) // 3 if groups else None
    return Pairs(Reader().gains(table), *table.scores.T, own, 3 if groups else 1)


def test_exact_counts_are_those_of_a_loop() -> None:
    one = pairs(80, 0)
    tested = np.array([0.0, 0.2, 0.21, 0.5, 1.0, ALL_OPEN, ALL_CLOSED])
    found = Exact(one, 0).counts(tested)
    for at, threshold in enumerate(tested):
        below = one.gains < threshold
        assert found.gained[at] == (below & (one.open > one.closed)).sum()
        assert found.lost[at] == (below & (one.open < one.closed)).sum()
        routed = one.routed(threshold)
        assert found.both[at] + found.gained[at] == routed.sum()


def test_graded_scores_keep_their_mean() -> None:
    one = pairs(60, 1, graded=True)
    drawn_ = [Exact(one, seed).counts(np.array([0.5])) for seed in range(3000)]
    closed = np.mean([c.both[0] + c.lost[0] for c in drawn_])
    routed = np.mean([c.both[0] + c.gained[0] for c in drawn_])
    assert closed == pytest.approx(one.closed.sum(), rel=0.02)
    assert routed == pytest.approx(one.routed(0.5).sum(), rel=0.02)


def test_bets_are_those_of_a_loop() -> None:
    train, one = pairs(90, 2, groups=True), pairs(90, 3, groups=True)
    keep, threshold = 0.9, 0.4

    def sums(of: Pairs, share: float) -> list[float]:
        values = (of.routed(threshold) - share * of.closed) / 3
        return [float(values[of.groups == g].sum()) for g in np.unique(of.groups)]

    before = sums(train, 1.0)
    variance = (sum(x * x for x in before) + 1 / len(before)) / (len(before) + 1)
    stake = min(0.9, math.sqrt(2 * math.log(1 / ALPHA) / (30 * variance)))
    owned = math.prod(1 + stake * x for x in sums(one, keep))
    passed = Bets(train, one).passes(np.array([threshold]), keep, ALPHA)
    assert passed.tolist() == [min(1, 1 / owned) <= ALPHA]


def test_a_test_is_chosen_by_what_trains() -> None:
    assert isinstance(chosen_test(pairs(60, 0), pairs(60, 1), 0), Exact)
    assert isinstance(chosen_test(pairs(60, 0, groups=True), pairs(60, 1, groups=True), 0), Bets)
    near = Pairs(np.arange(60.0), np.full(60, 0.5), np.full(60, 0.6))
    assert isinstance(chosen_test(near, near, 0), Bets), (
        "coins would add far more noise than there is"
    )


KEEPS = (0.8, 0.9, 0.95, 1.0)


@pytest.mark.parametrize("groups", [False, True])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_higher_demand_never_lowers_the_closed_share(groups: bool, seed: int) -> None:
    train, calibrate = pairs(39, seed, groups), pairs(39, seed + 1, groups)
    tested = TESTED

    def closed(keep: float, confidence: float) -> float:
        verdict = certify(train, calibrate, tested, keep, confidence)
        return calibrate.closed_share(verdict.threshold)

    shares = [closed(keep, 0.95) for keep in KEEPS]
    assert shares == sorted(shares)
    surer = [closed(0.9, confidence) for confidence in (0.6, 0.8, 0.95)]
    assert surer == sorted(surer)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_examples_makes_no_difference(seed: int) -> None:
    train, one = pairs(60, seed), pairs(60, seed + 1, groups=True)
    order = np.random.default_rng(seed).permutation(60)
    assert one.groups is not None
    mixed = Pairs(one.gains[order], one.open[order], one.closed[order], one.groups[order], 3)
    tested = TESTED
    found = [certify(train, each, tested, 0.9, 0.8).threshold for each in (one, mixed)]
    assert found[0] == found[1]
    alone = [replace(each, groups=None, largest=1) for each in (one, mixed)]
    found = [certify(train, each, tested, 0.9, 0.8).threshold for each in alone]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("groups", "graded"),
    [(False, False), (True, False), (False, True)],
    ids=["exact", "bets", "tossed"],
)
def test_violations_are_as_rare_as_promised(groups: bool, graded: bool) -> None:
    """Each certified threshold is held against 60,000 further examples."""
    truth = pairs(60_000, 99, graded=graded)
    train, tested, trials, wrong = (
        pairs(60, 98, groups, graded),
        TESTED,
        300,
        0,
    )
    certified = 0
    for seed in range(trials):
        verdict = certify(train, pairs(150, seed, groups, graded), tested, 0.9, 0.8, seed)
        certified += verdict.shown > 0
        wrong += truth.routed(verdict.threshold).mean() < 0.9 * truth.closed.mean()
    assert certified > trials / 2, "a test that shows nothing is never wrong"
    assert scipy.stats.binom.sf(wrong - 1, trials, 0.2) > 1e-4, wrong / trials


def test_thresholds_begin_closed_and_end_open() -> None:
    found = thresholds(np.linspace(-1, 3, 201), np.linspace(0, 1, 201))
    assert (np.diff(found) > 0).all()
    assert found[0] == pytest.approx(0.05), (
        "the router's own stops do not begin too openly or too closed"
    )
    assert found[-1] == ALL_OPEN
    assert 3.0 in found
    assert thresholds(np.zeros(5), np.zeros(5)).tolist() == [0.0, ALL_OPEN]


def test_a_router_that_is_wrong_about_its_own_gains_still_has_a_dial() -> None:
    """What it saw out of fold can lie elsewhere than what it says in the end, above all with few examples."""

    class Astray(Reader):
        def stops(self) -> np.ndarray:
            return np.full(5, 7.0)

    paper = made(drawn(600), lambda _o, _s: Astray(), keep=0.9).certificate
    assert paper is not None
    assert 0.05 < paper.threshold < 0.95


def test_what_cannot_be_is_refused() -> None:
    one = pairs(60, 0)
    for keep, confidence in ((0, 0.9), (1.1, 0.9), (0.9, 0.4), (0.9, 1)):
        with pytest.raises(ValueError, match="lies in"):
            certify(one, one, np.array([0.5]), keep, confidence)
    with pytest.raises(ValueError, match="finite"):
        Pairs(np.array([np.nan]), np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="lie in"):
        Pairs(np.zeros(1), np.ones(1), np.array([1.5]))


# --- certificates ---------------------------------------------------------------------------------


def test_a_certificate_says_what_was_found() -> None:
    table = drawn(2000)
    identities = (Identity(OPEN, "native/x"), Identity("third"))
    window = Window("work", "tickets", "sha256:" + "a" * 64, identities)
    found = make(table, Demand(OPEN, CLOSED, keep=0.9, labels=1000, seed=5), read_off, window)
    paper = found.certificate
    assert paper is not None
    assert (paper.task, paper.keep, paper.confidence, paper.seed) == ("tickets", 0.9, 0.95, 5)
    assert (paper.open, paper.closed) == (identities[0], Identity(CLOSED))
    assert (paper.train, paper.calibrate, paper.audit, paper.set_aside) == (400, 600, 1000, 0)
    assert paper.data_digest == table.digest()
    assert paper.router == Reader().digest()
    rows = split(table, seed=5, labels=1000).audit
    closed = Reader().gains(table)[rows] >= paper.threshold
    assert paper.closed_share.value == pytest.approx(closed.mean())
    routed = np.where(closed, table.scores[rows, 1], table.scores[rows, 0])
    assert paper.kept.value == pytest.approx(routed.mean() / table.scores[rows, 1].mean())
    spent = np.where(closed, 0.02, 0.001).mean()
    assert paper.saved.value == pytest.approx(1 - spent / 0.02)
    for one in (paper.closed_share, paper.kept, paper.saved):
        assert one.low is not None
        assert one.high is not None
        assert one.value is not None
        assert one.low <= one.value <= one.high
    assert found.labels == 1000


def test_a_cascade_pays_for_the_open_answer_too() -> None:
    table = drawn(2000)
    paper = made(table, lambda _o, _s: Reader("cascade"), keep=0.9).certificate
    assert paper is not None
    rows = split(table, seed=0, labels=None).audit
    closed = Reader().gains(table)[rows] >= paper.threshold
    assert paper.saved.value == pytest.approx(1 - (0.001 + 0.02 * closed.mean()) / 0.02)
    assert paper.mode == "cascade"


def test_neither_rows_nor_endpoints_have_an_order() -> None:
    table = drawn(400)
    mixed = table.take(np.random.default_rng(1).permutation(400))
    turned = mixed.only((CLOSED, OPEN))
    found = [made(one, fitter("before"), keep=0.85) for one in (table, mixed, turned)]
    papers = [one.certificate for one in found]
    assert papers[0] is not None
    for paper in papers[1:]:
        assert paper is not None
        assert (paper.router, paper.threshold) == (papers[0].router, papers[0].threshold)
        assert (paper.closed_share, paper.kept) == (papers[0].closed_share, papers[0].kept)


def test_unknown_costs_leave_the_saving_open() -> None:
    scores = drawn(600).scores
    paper = made(outcomes(scores, drawn(600).prompts, costs=False), keep=0.8).certificate
    assert paper is not None
    assert (paper.saved.value, paper.saved.low, paper.saved.high) == (None, None, None)


def test_equal_endpoints_leave_everything_open() -> None:
    paper = made(outcomes(np.ones((400, 2)), drawn(400).prompts)).certificate
    assert paper is not None
    assert paper.threshold == ALL_OPEN
    assert paper.closed_share.value == 0


def test_a_goal_out_of_reach_says_what_is_in_reach() -> None:
    table = drawn(300, best=0.7)
    found = made(table, keep=1.0)
    assert found.certificate is None
    assert found.verdict.threshold == ALL_CLOSED
    assert found.verdict.instead is not None
    assert 0.8 < found.verdict.instead < 1.0
    again = made(table, keep=found.verdict.instead)
    assert again.certificate is not None, "what it says can be certified can be"


def test_more_labels_are_worth_what_the_forecast_says() -> None:
    few, many = pairs(60, 1), pairs(100_000, 2)
    tested = TESTED
    verdict = certify(few, few, tested, 0.9, 0.95)
    shares = dict(forecast(few, many, verdict, 0.9, 0.95, 0).shares)
    order = [shares[times] for times in sorted(shares)]
    assert order == sorted(order, reverse=True)
    hopeless = Pairs(few.gains, np.zeros(60), np.ones(60))
    verdict = certify(hopeless, hopeless, tested, 0.99, 0.95)
    assert verdict.shown == 0
    assert forecast(hopeless, hopeless, verdict, 0.99, 0.95, 0).needed is None


def test_needed_labels_suffice_mostly() -> None:
    tested, certified, times = TESTED, 0, []
    train, demand = pairs(60, 1), 0.97
    for seed in range(12):
        small = pairs(40, 1000 + seed)
        verdict = certify(train, small, tested, demand, 0.95)
        told = forecast(train, small, verdict, demand, 0.95, 0)
        if verdict.shown == 0 and told.needed is not None:
            times.append(told.needed)
    needed = round(40 * float(np.median(times)))
    for seed in range(16):
        certified += certify(train, pairs(needed, 5000 + seed), tested, demand, 0.95).shown > 0
    assert certified >= 8, (certified, needed)


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (np.zeros((200, 2)), "never right"),
        (np.tile([1.0, 0.0], (200, 1)), "never right"),
        (np.full((200, 2), np.nan), "Only 0 different"),
    ],
)
def test_tables_that_say_nothing_are_refused(scores: np.ndarray, why: str) -> None:
    with pytest.raises(DataError, match=why):
        made(outcomes(scores, drawn(200).prompts))


def test_an_open_endpoint_that_is_never_right() -> None:
    found = made(outcomes(np.tile([0.0, 1.0], (200, 1)), drawn(200).prompts))
    assert found.certificate is None
    assert found.forecast.needed is None


def test_requests_that_cannot_be_are_refused() -> None:
    for asked in (
        {"keep": 0}, {"keep": 1.2}, {"confidence": 0.3}, {"confidence": 1.0}, {"labels": 0},
        {"audit": 0.9}, {"seed": -1}, {"keep": math.nan},
    ):  # fmt: skip
        with pytest.raises(RequestError, match="--"):
            Demand(OPEN, CLOSED, **asked)
    with pytest.raises(RequestError, match="two"):
        Demand(OPEN, OPEN)
    with pytest.raises(NotFoundError, match="No endpoint"):
        make(drawn(100), Demand(OPEN, "nobody"), read_off, WINDOW)


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_router_is_fitted_on_probes_that_every_example_has(lacking: int) -> None:
    table = drawn(200)
    probes = tuple(((float(i),), ()) for i in range(200 - lacking))
    table = replace(table, probes=probes + (((), ()),) * lacking)
    fitted: list[Outcomes] = []

    def fit(of: Outcomes, seed: int) -> Reader:
        fitted.append(of)
        return read_off(of, seed)

    found = made(table, fit, keep=0.8)
    (of,) = fitted
    assert {len(one) for one, _ in of.probes} == {1 - lacking}
    # What it was made from is the table as it is.
    assert found.certificate is not None
    assert found.certificate.data_digest == table.digest()
