"""Means and shares: against statsmodels, scipy and matrices, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from daulat.statistics.clusters import spread
from daulat.statistics.intervals import mean, proportion, score
from daulat.statistics.samples import Caveat, sample

SCORES = st.floats(0, 1).map(lambda one: round(one, 6))


@pytest.mark.parametrize(("exact", "method"), [(False, "wilson"), (True, "beta")])
@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (0, 20), (3, 20), (97, 100), (400, 805)]
)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_shares_are_those_of_statsmodels(
    exact: bool, method: str, successes: int, n: int, confidence: float
) -> None:
    told = proportion(successes, n, confidence=confidence, exact=exact)
    low, high = proportion_confint(successes, n, 1 - confidence, method)
    assert (told.low, told.high) == pytest.approx((low, high), abs=1e-12)


def test_a_share_of_nothing_is_unknown() -> None:
    told = proportion(0, 0)
    oracles.sound(told, (0.0, 1.0))
    assert told.value is None


@pytest.mark.parametrize(("successes", "n"), [(2, 1), (-1, 3)])
def test_more_successes_than_examples_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        proportion(successes, n)


def test_the_mean_of_independent_examples_is_students() -> None:
    values = np.random.default_rng(1).beta(2, 5, 40)
    told = mean(values, confidence=0.9)
    low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (told.low, told.high) == pytest.approx((low, high), abs=1e-12)
    assert told.error == pytest.approx(scipy.stats.sem(values))


def test_cr1_is_the_clustered_error_of_statsmodels() -> None:
    generator = np.random.default_rng(2)
    clusters = generator.integers(0, 12, 90)
    values = generator.random(90) + 0.1 * clusters
    fitted = sm.OLS(values, np.ones(90)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    told = mean(values, clusters=clusters, bounds=(-9, 9), correction="CR1")
    assert told.error == pytest.approx(float(fitted.bse[0]), rel=1e-12)
    half = scipy.stats.t.ppf(0.975, len(np.unique(clusters)) - 1) * float(fitted.bse[0])
    assert told.high == pytest.approx(values.mean() + half, rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=25), st.integers(0, 2**32 - 1))
def test_cr2_is_that_of_matrices(clusters: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).random(len(clusters))
    found = sample(values, clusters=clusters)
    if found.clusters < 2:
        return
    width = spread(found)
    variance, apart = oracles.cr2(values, clusters, together=False)
    _same, copies = oracles.cr2(values, clusters, together=True)
    assert width.error**2 == pytest.approx(variance, rel=1e-9)
    assert width.freedom == pytest.approx(max(1.0, min(apart, copies)), rel=1e-9)


def test_clusters_of_one_are_no_clusters() -> None:
    values = np.random.default_rng(3).random(30)
    with_names = mean(values, clusters=[f"d{n}" for n in range(30)])
    without = mean(values)
    assert (with_names.low, with_names.high) == pytest.approx((without.low, without.high))
    right = np.round(values)
    assert score(right, clusters=list(range(30))) == score(right)


def test_right_and_wrong_get_wilson() -> None:
    values = [1, 1, 0, 1, 0, 1, 1, 1]
    told, plain = score(values), proportion(6, 8)
    assert (told.low, told.high, told.method) == (plain.low, plain.high, "Wilson")
    assert told.error == pytest.approx(scipy.stats.sem(values))


def test_copies_of_examples_make_nothing_surer() -> None:
    values = np.random.default_rng(4).random(25)
    once = mean(values)
    thrice = mean(np.tile(values, 3), clusters=np.tile(np.arange(25), 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


@settings(deadline=None)
@given(st.lists(st.tuples(SCORES, st.integers(0, 5)), max_size=30), st.floats(0.5, 0.99))
def test_any_scores_have_a_sound_interval(rows: list[tuple[float, int]], confidence: float) -> None:
    values, clusters = [one for one, _c in rows], [c for _one, c in rows]
    for told in (
        score(values, confidence=confidence),
        score(values, clusters=clusters, confidence=confidence),
        mean(values, clusters=clusters, confidence=confidence),
    ):
        oracles.sound(told, (0.0, 1.0))


@settings(deadline=None)
@given(st.lists(st.tuples(SCORES, st.integers(0, 5)), min_size=1, max_size=30), st.randoms())
def test_the_order_of_examples_does_not_matter(
    rows: list[tuple[float, int]], random: object
) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    first, second = (
        score([one for one, _c in each], clusters=[c for _one, c in each]) for each in (rows, mixed)
    )
    assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-9)


@settings(deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=30))
def test_failures_are_successes_mirrored(values: list[float]) -> None:
    told, other = score(values), score([1 - one for one in values])
    assert (told.low, told.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [2, 3, 20, 500])
def test_equal_scores_say_how_rare_others_must_be(value: float, n: int) -> None:
    told = mean([value] * n)
    rare = 1 - 0.05 ** (1 / (n - 1))
    assert told.caveat is Caveat.CONSTANT
    assert told.low == pytest.approx(value * (1 - rare))
    assert told.high == pytest.approx(value + rare * (1 - value))


def test_one_example_or_one_cluster_bounds_nothing() -> None:
    for told in (mean([0.4]), mean([0.2, 0.4, 0.9], clusters=["a"] * 3), score([0.5])):
        assert (told.low, told.high) == (0.0, 1.0)
        assert told.value is not None
        assert told.caveat in (Caveat.SINGLE, Caveat.ONE_CLUSTER)
    assert score([1]).low == pytest.approx(proportion(1, 1).low)


def test_what_is_missing_counts_as_the_caller_says() -> None:
    values = [1.0, math.nan, 0.0, 1.0]
    left_out, wrong = score(values), score(values, missing=0.0)
    assert (left_out.n, left_out.missing, left_out.value) == (3, 1, pytest.approx(2 / 3))
    assert (wrong.n, wrong.missing, wrong.value) == (4, 0, 0.5)
    assert score([math.nan] * 4).caveat is Caveat.EMPTY


def test_a_few_heavy_clusters_are_told() -> None:
    values = np.random.default_rng(5).random(40)
    assert mean(values, clusters=np.arange(40) // 10).caveat is Caveat.FEW_CLUSTERS
    assert mean(values, clusters=np.arange(40) // 2).caveat is Caveat.NONE
    heavy = np.r_[np.zeros(20, int), np.arange(1, 21)]
    assert mean(values, clusters=heavy).caveat is Caveat.FEW_CLUSTERS


@pytest.mark.parametrize("bad", [[math.inf], [[1.0]]])
def test_what_is_no_row_of_numbers_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"infinite|dimensions"):
        mean(bad)


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match="outside of 0 to 1"):
        score([0.5, 1.5])
    with pytest.raises(ValueError, match="3 examples and 2 clusters"):
        mean([1, 2, 3], clusters=["a", "b"])
    with pytest.raises(ValueError, match="confidence lies between"):
        mean([1, 0], confidence=1.0)
