"""The exact test that quality is kept: against likelihoods, all outcomes of few examples, and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import gammaln, xlogy

from daulat.statistics import keeping
from daulat.statistics.keeping import Counts

ALPHA = 0.05
FINE = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000}
KEEPS = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)


def counts(n: int, gained: object, lost: object, both: object) -> Counts:
    return Counts(n, *(np.atleast_1d(np.array(one, np.int64)) for one in (gained, lost, both)))


def score(gained: int, lost: int, both: int, neither: int, keep: float) -> float:
    """By the most likely distribution that just does not keep enough, searched for without any formula."""
    values = np.array([1.0, -keep, 1 - keep, 0.0])
    seen = np.array([gained, lost, both, neither], float)
    if values @ seen <= 0:
        return 0.0

    def chances(place: np.ndarray) -> np.ndarray:
        """Gained, lost, both, neither, from two numbers in (0, 1): what the hypothesis leaves open."""
        right, part = place
        low, high = (1 - keep) * right, min(right, 1 - keep * right)
        alone = low + (high - low) * part
        chance = [alone - (1 - keep) * right, alone, right - alone, 0]
        return np.clip([*chance[:3], 1 - sum(chance)], 1e-15, 1)

    def unlikely(place: np.ndarray) -> float:
        return -float(seen @ np.log(chances(place)))

    within = [(1e-9, 1 - 1e-9)] * 2
    starts = itertools.product((0.2, 0.5, 0.9), (0.05, 0.4))
    tried = [
        minimize(unlikely, one, bounds=within, method="Nelder-Mead", options=FINE) for one in starts
    ]
    best = chances(min(tried, key=lambda one: one.fun).x)
    variance = float((values**2) @ best) * seen.sum()
    return float(values @ seen) / math.sqrt(variance)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any), st.sampled_from(KEEPS))
def test_the_statistic_is_that_of_the_restricted_likelihood(
    seen: tuple[int, int, int, int], keep: float
) -> None:
    gained, lost, both, neither = seen
    found = keeping.statistic(counts(sum(seen), gained, lost, both), keep)[0]
    assert found == pytest.approx(score(gained, lost, both, neither, keep), rel=1e-3, abs=1e-6)


def test_all_that_is_to_be_kept_is_mcnemar() -> None:
    found = keeping.statistic(counts(60, [12, 20, 3], [4, 20, 9], [30, 10, 5]), 1.0)
    assert found.tolist() == pytest.approx([8 / 4, 0.0, 0.0])


def likelihoods(n: int, keep: float) -> tuple[np.ndarray, np.ndarray]:
    """The statistic of all outcomes of n examples, and their chances under many nulls, [nulls, outcomes]."""
    seen = np.array(
        [
            (g, lost, b)
            for g, lost, b in itertools.product(range(n + 1), repeat=3)
            if g + lost + b <= n
        ]
    )
    neither = n - seen.sum(axis=1)
    ways = gammaln(n + 1) - gammaln(np.c_[seen, neither] + 1).sum(axis=1)
    rows = []
    for right in np.linspace(0.0, 1.0, 41):
        for part in np.linspace(0, 1, 25):
            low, high = (1 - keep) * right, min(right, 1 - keep * right)
            lost = low + (high - low) * part
            gained = lost - (1 - keep) * right
            p = np.clip([gained, lost, right - lost, 1 - right - gained], 0, 1)
            rows.append(np.exp(ways + xlogy(np.c_[seen, neither], p).sum(axis=1)))
    reached = keeping.statistic(counts(n, *seen.T), keep)
    return reached, np.array(rows)


@pytest.mark.parametrize("keep", [0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("n", [3, 8, 14])
def test_the_critical_value_holds_against_all_outcomes(n: int, keep: float) -> None:
    reached, chance = likelihoods(n, keep)
    for alpha in (0.05, 0.2):
        value = keeping.critical_value(n, keep, alpha)
        assert (chance @ (reached >= value)).max() <= alpha + 1e-9
        # And none of the values that can occur below it would do, but for what is spared.
        below = reached[reached < value - 0.02]
        if below.size and below.max() > scipy.stats.norm.isf(alpha) - 0.2:
            assert (chance @ (reached >= below.max() - 1e-9)).max() > 0.8 * alpha


@pytest.mark.parametrize("right", [0.3, 0.95])
@pytest.mark.parametrize("keep", [0.9, 1.0])
def test_wrong_verdicts_are_as_rare_as_they_say(right: float, keep: float) -> None:
    n, trials, rng = 80, 1500, np.random.default_rng(1)
    low, high = (1 - keep) * right, min(right, 1 - keep * right)
    for part in (0.0, 0.1, 0.6):
        lost = low + (high - low) * part
        p = [lost - (1 - keep) * right, lost, right - lost]
        seen = rng.multinomial(n, [*p, max(0.0, 1 - sum(p))], trials)
        every, often = np.unique(seen, axis=0, return_counts=True)
        near = keeping.statistic(counts(n, *every.T[:3]), keep) > 1.3  # below, no critical value is
        verdicts = [keeping.keeps(counts(n, *one[:3]), keep, ALPHA)[0] for one in every[near]]
        wrong = int(often[near][np.array(verdicts, bool)].sum())
        assert scipy.stats.binom.sf(wrong - 1, trials, ALPHA) > 1e-4, wrong / trials


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 24)] * 3).filter(lambda seen: sum(seen) <= 24))
def test_what_shows_more_shows_less(seen: tuple[int, int, int]) -> None:
    found = [keeping.keeps(counts(24, *seen), keep, ALPHA)[0] for keep in (0.8, 0.9, 0.95, 1.0)]
    assert found == sorted(found, reverse=True)
    surer = [keeping.keeps(counts(24, *seen), 0.9, alpha)[0] for alpha in (0.2, 0.05, 0.01)]
    assert surer == sorted(surer, reverse=True)


def test_the_largest_share_that_is_shown() -> None:
    one = counts(60, 5, 3, 40)
    found = keeping.kept_at_least(one, ALPHA, step=0.01)
    assert keeping.keeps(one, found, ALPHA)[0]
    assert not keeping.keeps(one, found + 0.01, ALPHA)[0]
    assert 0.85 < found < 45 / 43
    assert keeping.kept_at_least(counts(120, 0, 80, 0), ALPHA) == 0


def test_p_values_agree_with_verdicts() -> None:
    one = counts(40, [1, 3, 6], [1, 1, 1], [25, 25, 25])
    p = keeping.p_values(one, 0.95)
    verdicts = keeping.keeps(one, 0.95, ALPHA)
    assert p.tolist() == sorted(p, reverse=True)
    assert all(kept == (value <= ALPHA) for kept, value in zip(verdicts, p, strict=True))
    assert keeping.p_values(counts(40, 0, 20, 20), 0.95).tolist() == [1.0]


def test_many_examples_are_held_to_the_value_of_fewer() -> None:
    n = 100_000
    one = counts(n, [2000, 2000], [3000, 5400], [77_000, 74_600])
    assert keeping.keeps(one, 0.95, ALPHA).tolist() == [True, True]
    assert not keeping.keeps(counts(n, 1000, 5000, 75_000), 0.95, ALPHA)[0]


def test_nothing_right_or_nothing_at_all() -> None:
    assert keeping.keeps(counts(50, 0, 0, 0), 0.95, ALPHA).tolist() == [False]
    empty = np.zeros(0, np.int64)
    assert keeping.keeps(Counts(50, empty, empty, empty), 0.95, ALPHA).tolist() == []


def test_what_cannot_be_is_refused() -> None:
    one = counts(10, 1, 1, 5)
    for keep in (0.0, 1.1):
        with pytest.raises(ValueError, match="share to keep"):
            keeping.statistic(one, keep)
    with pytest.raises(ValueError, match="probability of error"):
        keeping.keeps(one, 0.9, 0.6)
