"""Bounds on means: against scipy, statsmodels and mapie, against slow plain code, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy.optimize import brentq
from statsmodels.stats.proportion import proportion_confint

from daulat.statistics import bounds

ALPHA = 0.05
UNLIKELY = 1e-4
SCORES = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1, width=32))
BOUNDS = (bounds.hoeffding, bounds.hoeffding_bentkus, bounds.bernstein, bounds.betting)


def test_clopper_pearson_is_that_of_statsmodels() -> None:
    for n in (1, 7, 50):
        k = np.arange(n + 1)
        low, high = proportion_confint(k, n, alpha=2 * ALPHA, method="beta")
        np.testing.assert_allclose(bounds.share_at_least(k, n, ALPHA), low, atol=1e-12)
        np.testing.assert_allclose(bounds.share_at_most(k, n, ALPHA), high, atol=1e-12)


def test_counts_that_cannot_be_are_refused() -> None:
    for k, n in (([3], 2), ([-1], 2), ([0], 0)):
        with pytest.raises(ValueError, match="lie between"):
            bounds.share_at_least(np.array(k), n, ALPHA)


def test_hoeffding_bentkus_is_that_of_mapie() -> None:
    n, target = 120, 0.7
    means = np.arange(1, n) / n
    # It rounds the number of losses up, and a rounding error with it.
    risks = 1 - means - 1e-12
    theirs = compute_hoeffding_bentkus_p_value(risks, n, 1 - target)[:, 0]
    ours = bounds.hoeffding_bentkus_p(means, n, target)
    np.testing.assert_allclose(ours, np.minimum(1, theirs), rtol=1e-9)


def test_hoeffding_is_the_root_of_its_equation() -> None:
    scores = np.random.default_rng(0).random(60)
    mean, limit = scores.mean(), math.log(1 / ALPHA) / 60

    def over(m: float) -> float:
        return mean * math.log(mean / m) + (1 - mean) * math.log((1 - mean) / (1 - m)) - limit

    root = brentq(over, 1e-9, mean)
    assert bounds.hoeffding(scores, ALPHA)[0] == pytest.approx(root, abs=1e-9)


def test_hoeffding_bentkus_bound_is_where_its_p_value_is_alpha() -> None:
    scores = (np.random.default_rng(1).random((80, 3)) < [0.5, 0.9, 0.99]).astype(float)
    found = bounds.hoeffding_bentkus(scores, ALPHA)
    mean = scores.mean(axis=0)
    assert (bounds.hoeffding_bentkus_p(mean, 80, found - 1e-6) <= ALPHA).all()
    assert (bounds.hoeffding_bentkus_p(mean, 80, found + 1e-6) > ALPHA).all()
    assert (found >= bounds.hoeffding(scores, ALPHA) - 1e-9).all()


def test_bernstein_is_its_formula() -> None:
    scores = np.random.default_rng(2).beta(8, 2, 50)
    log = math.log(2 / ALPHA)
    expected = scores.mean() - math.sqrt(2 * scores.var(ddof=1) * log / 50) - 7 * log / (3 * 49)
    assert bounds.bernstein(scores, ALPHA)[0] == pytest.approx(expected)


def gambled(scores: list[float], m: float, alpha: float) -> float:
    """The most that the gambler of Waudby-Smith and Ramdas ever owns, step by step."""
    n, owned, most = len(scores), 1.0, 1.0
    total, squares, variance = 0.5, 0.25, 0.25
    for t, x in enumerate(scores, 1):
        stake = min(math.sqrt(2 * math.log(1 / alpha) / (n * variance)), 0.75 / m)
        owned *= 1 + stake * (x - m)
        most = max(most, owned)
        total += x
        squares += (x - total / (t + 1)) ** 2
        variance = squares / (t + 1)
    return most


def test_betting_is_what_a_gambler_does() -> None:
    scores = np.random.default_rng(3).beta(5, 2, 70)
    found = bounds.betting(scores, ALPHA)[0]
    assert gambled(scores.tolist(), found - 1e-6, ALPHA) >= 1 / ALPHA
    assert gambled(scores.tolist(), found + 1e-6, ALPHA) < 1 / ALPHA
    p = bounds.betting_p(scores, 0.6, ALPHA)[0]
    assert p == pytest.approx(1 / gambled(scores.tolist(), 0.6, ALPHA))


def test_betting_interval_is_two_bounds_of_half_the_error() -> None:
    scores = np.random.default_rng(4).random(100)
    low, high = bounds.betting_interval(scores, ALPHA)
    assert low[0] == bounds.betting(scores, ALPHA / 2)[0]
    assert high[0] == 1 - bounds.betting(1 - scores, ALPHA / 2)[0]
    assert low[0] < scores.mean() < high[0]


@settings(deadline=None, max_examples=50)
@given(scores=SCORES)
@pytest.mark.parametrize("bound", BOUNDS, ids=lambda one: one.__name__)
def test_lower_bounds_are_lower_and_between_zero_and_one(bound, scores) -> None:
    found = bound(scores, ALPHA)
    assert found.shape == (1,)
    assert 0 <= found[0] <= 1
    if bound is not bounds.betting:  # which may think otherwise of a few scores in an unusual order
        assert found[0] <= scores.mean() + 1e-9


@settings(deadline=None, max_examples=50)
@given(scores=SCORES, seed=st.integers(0, 9))
@pytest.mark.parametrize("bound", BOUNDS[:3], ids=lambda one: one.__name__)
def test_the_order_makes_no_difference(bound, scores, seed) -> None:
    mixed = np.random.default_rng(seed).permutation(scores)
    np.testing.assert_allclose(bound(mixed, ALPHA), bound(scores, ALPHA), atol=1e-9)


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda one: one.__name__)
def test_less_error_lower_bound(bound) -> None:
    scores = np.random.default_rng(5).beta(3, 2, 60)
    found = [bound(scores, alpha)[0] for alpha in (0.2, 0.1, 0.05, 0.01, 0.001)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda one: one.__name__)
def test_equal_scores_and_few_of_them(bound) -> None:
    assert 0 < bound(np.ones(500), ALPHA)[0] < 1
    assert bound(np.zeros(20), ALPHA)[0] == 0
    assert bound(np.array([1.0]), ALPHA)[0] <= ALPHA + 1e-9
    with pytest.raises(ValueError, match="at least one"):
        bound(np.zeros(0), ALPHA)
    with pytest.raises(ValueError, match="lie in"):
        bound(np.array([0.2, 1.5]), ALPHA)


POPULATIONS = {
    "coin 0.5": lambda rng, shape: (rng.random(shape) < 0.5).astype(float),
    "coin 0.97": lambda rng, shape: (rng.random(shape) < 0.97).astype(float),
    "coin 0.02": lambda rng, shape: (rng.random(shape) < 0.02).astype(float),
    "beta": lambda rng, shape: rng.beta(2, 5, shape),
    "rare loss": lambda rng, shape: np.where(rng.random(shape) < 0.01, 0.0, 0.9),
}
TRUTHS = {"coin 0.5": 0.5, "coin 0.97": 0.97, "coin 0.02": 0.02, "beta": 2 / 7, "rare loss": 0.891}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("bound", BOUNDS, ids=lambda one: one.__name__)
def test_bounds_cover(bound, population) -> None:
    trials = 1000
    for n in (10, 60):
        scores = POPULATIONS[population](np.random.default_rng(n), (n, trials))
        missed = int((bound(scores, ALPHA) > TRUTHS[population] + 1e-9).sum())
        assert scipy.stats.binom.sf(missed - 1, trials, ALPHA) > UNLIKELY, missed / trials


def test_fixed_bets_err_as_seldom_as_they_say() -> None:
    rng, trials, n = np.random.default_rng(6), 3000, 200
    for p in (0.05, 0.3):  # gains of 1 and losses of 0.95 that make up for each other
        values = rng.choice([1.0, -0.95, 0.0], p=[0.95 * p, p, 1 - 1.95 * p], size=(n, trials))
        stakes = np.full(trials, math.sqrt(2 * math.log(20) / (n * 1.9 * p)))
        wrong = int((bounds.fixed_bets_p(values, np.minimum(0.9, stakes)) <= ALPHA).sum())
        assert scipy.stats.binom.sf(wrong - 1, trials, ALPHA) > UNLIKELY


def test_fixed_bets_are_a_product() -> None:
    values = np.random.default_rng(7).uniform(-0.9, 1, (30, 2))
    found = bounds.fixed_bets_p(values, np.array([0.5, 0.0]))
    owned = math.prod(1 + 0.5 * x for x in values[:, 0])
    assert found.tolist() == pytest.approx([min(1, 1 / owned), 1.0])
    np.testing.assert_allclose(bounds.fixed_bets_p(values[::-1], np.array([0.5, 0.0])), found)
    with pytest.raises(ValueError, match="lose all"):
        bounds.fixed_bets_p(np.array([[-1.0]]), np.array([1.0]))


def test_the_band_holds_everywhere_at_once() -> None:
    n, trials = 50, 2000
    drawn = np.sort(np.random.default_rng(8).random((trials, n)), axis=1)
    above = (np.arange(1, n + 1) / n - drawn).max(axis=1)
    below = (drawn - np.arange(n) / n).max(axis=1)
    missed = int((np.maximum(above, below) > bounds.band(n, ALPHA)).sum())
    assert scipy.stats.binom.sf(missed - 1, trials, ALPHA) > UNLIKELY
    assert bounds.band(n, ALPHA) == pytest.approx(math.sqrt(math.log(2 / ALPHA) / (2 * n)))
    assert bounds.band(0, ALPHA) == 1.0


def test_a_bound_moves_with_its_range() -> None:
    assert bounds.ranged(np.array([0.25]), (-1.0, 1.0))[0] == -0.5
