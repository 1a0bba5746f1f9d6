"""The bootstrap, percentiles and ratios: against scipy, brute force and each other."""

from __future__ import annotations

import math
import time

import numpy as np
import oracles
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.statistics.bootstrap import _acceleration, bootstrap_mean, resampled
from daulat.statistics.percentiles import percentile
from daulat.statistics.ratios import ratio
from daulat.statistics.samples import Caveat

SCORES = st.floats(0, 1).map(lambda one: round(one, 6))
METHODS = ("fieller", "delta", "bootstrap")


def test_bca_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).beta(1, 6, 60)
    told = bootstrap_mean(values, draws=20_000)
    other = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2)
    )
    close = 0.04 * (told.high - told.low)
    assert told.low == pytest.approx(other.confidence_interval.low, abs=close)
    assert told.high == pytest.approx(other.confidence_interval.high, abs=close)
    assert told.error == pytest.approx(other.standard_error, rel=0.02)


def test_the_acceleration_is_the_jackknifes() -> None:
    generator = np.random.default_rng(3)
    values, clusters = generator.random(40) ** 3, generator.integers(0, 9, 40)
    left_out = np.array(oracles.leave_one_out(list(values), list(clusters)))
    away = left_out.mean() - left_out
    wanted = np.sum(away**3) / (6 * np.sum(away**2) ** 1.5)
    sums = np.bincount(clusters, values)
    sizes = np.bincount(clusters)
    ours = (values.sum() - sums) / (40 - sizes)
    assert _acceleration(ours) == pytest.approx(wanted)


def test_draws_are_of_whole_clusters() -> None:
    columns = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    totals = resampled(columns, 5000)
    assert (totals[:, 1] == 10 * totals[:, 0]).all()
    assert set(totals[:, 0]) == {a + b + c for a in (1, 2, 4) for b in (1, 2, 4) for c in (1, 2, 4)}
    assert totals[:, 0].mean() == pytest.approx(7, rel=0.02)


def test_ten_thousand_draws_of_two_thousand_clusters_take_seconds() -> None:
    values = np.random.default_rng(4).random(2000)
    began = time.process_time()
    bootstrap_mean(values, draws=10_000)
    assert time.process_time() - began < 10


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SCORES, st.integers(0, 5)), max_size=20), st.randoms())
def test_the_bootstrap_is_sound_and_knows_no_order(
    rows: list[tuple[float, int]], random: object
) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    first, second = (
        bootstrap_mean([one for one, _c in each], clusters=[c for _one, c in each], draws=200)
        for each in (rows, mixed)
    )
    oracles.sound(first, (0.0, 1.0))
    assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 40, 150])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
def test_percentiles_end_at_the_ranks_of_brute_force(n: int, share: float) -> None:
    told = percentile(np.arange(1.0, n + 1), share)
    lower, upper = oracles.ranks(n, share, 0.05)
    assert told.low == (min(lower, told.value or 0) if lower else 0.0)
    assert told.high == (upper if upper <= n else math.inf)
    assert (told.caveat is Caveat.UNBOUNDED) == (lower == 0 or upper > n)


def test_percentiles_agree_with_scipys_interval() -> None:
    values = np.random.default_rng(5).lognormal(size=300)
    told = percentile(values, 0.9)
    other = scipy.stats.quantile_test(values, q=told.value or 0, p=0.9).confidence_interval(0.95)
    ordered = np.sort(values)
    places = [
        int(np.searchsorted(ordered, one)) for one in (told.low, told.high, other.low, other.high)
    ]
    assert abs(places[0] - places[2]) <= 1
    assert abs(places[1] - places[3]) <= 1
    assert told.value == np.quantile(values, 0.9)


def test_the_99th_percentile_needs_368_values() -> None:
    values = np.random.default_rng(6).random(368)
    assert math.isfinite(percentile(values, 0.99).high)
    assert math.isinf(percentile(values[:-1], 0.99).high)


def test_latencies_of_one_session_widen_the_interval() -> None:
    sessions = np.repeat(np.arange(40), 5)
    values = np.random.default_rng(7).lognormal(size=40)[sessions] + 0.001 * np.arange(200)
    alone, grouped = percentile(values, 0.5), percentile(values, 0.5, clusters=sessions)
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 4)), max_size=40),
    st.sampled_from([0.01, 0.5, 0.99]),
)
def test_any_percentile_is_sound(rows: list[tuple[float, int]], share: float) -> None:
    values = [one for one, _c in rows]
    oracles.sound(percentile(values, share), (0.0, math.inf))
    oracles.sound(percentile(values, share, clusters=[c for _one, c in rows]), (0.0, math.inf))


def test_fieller_holds_what_a_t_test_does_not_reject() -> None:
    generator = np.random.default_rng(8)
    good = generator.random(60) < 0.4
    costs = generator.random(60) + good
    told = ratio(costs, good.astype(float))
    for end, step in ((told.low, -1e-6), (told.high, 1e-6)):
        at, beyond = (
            scipy.stats.ttest_1samp(costs - r * good, 0).pvalue for r in (end, end + step)
        )
        assert at == pytest.approx(0.05, abs=1e-6)
        assert beyond < 0.05
    assert told.value == pytest.approx(costs.mean() / good.mean())


def test_fieller_has_no_end_where_the_denominator_may_be_zero() -> None:
    good = np.array([1.0] + [0.0] * 19)
    told = ratio(np.full(20, 0.01), good)
    assert told.caveat is Caveat.UNBOUNDED
    assert told.high == math.inf
    assert 0 < told.low < (told.value or 0) == pytest.approx(0.2)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_good_has_no_price(method: str) -> None:
    told = ratio([0.1, 0.2], [0, 0], method=method)
    assert told.value is None
    assert told.caveat is Caveat.NOTHING_GOOD
    assert (told.low, told.high) == (0.0, math.inf)


def test_a_fixed_price_is_as_sure_as_the_share_of_good_answers() -> None:
    told, free = ratio([0.02] * 30, [1] * 30), ratio([0.0] * 30, [1, 0] * 15)
    assert told.low == pytest.approx(0.02 * 0.05 ** (1 / 29))
    assert told.high == pytest.approx(0.02 / 0.05 ** (1 / 29))
    assert (free.low, free.value, free.high) == (0.0, 0.0, 0.0)


def test_the_same_answers_keep_all_quality_as_far_as_is_known() -> None:
    scores = np.random.default_rng(10).random(12)
    told = ratio(scores, scores)
    assert told.value == 1.0
    assert told.low == pytest.approx(0.05 ** (1 / 11))
    assert told.caveat is Caveat.CONSTANT


@pytest.mark.parametrize("method", METHODS)
def test_methods_agree_where_the_denominator_is_sure(method: str) -> None:
    generator = np.random.default_rng(9)
    clusters = generator.integers(0, 300, 2000)
    good = (generator.random(2000) < 0.6).astype(float)
    costs = generator.random(2000)
    told = ratio(costs, good, clusters=clusters, method=method, draws=4000)
    fieller = ratio(costs, good, clusters=clusters)
    assert told.low == pytest.approx(fieller.low, rel=0.01)
    assert told.high == pytest.approx(fieller.high, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5), SCORES, st.integers(0, 4)), max_size=20),
    st.sampled_from(METHODS),
)
def test_any_ratio_is_sound(rows: list[tuple[float, float, int]], method: str) -> None:
    above, below = [a for a, _b, _c in rows], [round(b) * 1.0 for _a, b, _c in rows]
    told = ratio(above, below, clusters=[c for *_rest, c in rows], method=method, draws=200)
    oracles.sound(told, (0.0, math.inf))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="outside of 0 to inf"):
        percentile([-1.0, 2.0], 0.5)
    with pytest.raises(ValueError, match="outside of 0 to 1"):
        bootstrap_mean([2.0, 0.5])
    with pytest.raises(ValueError, match="not negative"):
        ratio([-1.0], [1.0])
    with pytest.raises(ValueError, match="share lies between"):
        percentile([1.0], 1.0)
    with pytest.raises(ValueError, match="too few"):
        bootstrap_mean([1.0, 0.0], draws=10)
