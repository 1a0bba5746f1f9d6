"""Two endpoints on the same examples, and slices: against scipy, statsmodels and brute force."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from daulat.statistics.multiple import by_slice, holm, simultaneous
from daulat.statistics.paired import above, compare, difference
from daulat.statistics.samples import Caveat
from daulat.statistics.significance import mcnemar, sign_flips

SCORES = st.floats(0, 1).map(lambda one: round(one, 3))
ROWS = st.lists(st.tuples(SCORES, SCORES, st.integers(0, 6)), max_size=25)
BITS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def columns(rows: list[tuple[float, float, int]]) -> tuple[list[float], list[float], list[int]]:
    return [a for a, _b, _c in rows], [b for _a, b, _c in rows], [c for *_rest, c in rows]


@settings(deadline=None)
@given(BITS)
def test_mcnemar_is_that_of_statsmodels(rows: list[tuple[int, int]]) -> None:
    a, b = np.array(rows, float).T
    told = mcnemar(a, b)
    table = [[told.both, told.only_a], [told.only_b, told.neither]]
    assert sum(map(sum, table)) == len(rows)
    wanted = their_mcnemar(table, exact=True).pvalue if told.only_a + told.only_b else 1.0
    assert told.p == pytest.approx(min(1.0, wanted), rel=1e-9)
    fewer, n = min(told.only_a, told.only_b), told.only_a + told.only_b
    mid = 2 * (scipy.stats.binom.cdf(fewer, n, 0.5) - scipy.stats.binom.pmf(fewer, n, 0.5) / 2)
    assert told.mid_p == pytest.approx(min(1.0, mid) if n else 1.0, rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1).map(lambda one: round(one, 2)), min_size=1, max_size=9))
def test_sign_flips_are_those_of_brute_force(apart: list[float]) -> None:
    told = sign_flips(apart, [0.0] * len(apart))
    assert told.p == pytest.approx(oracles.flips(apart))
    assert told.units == sum(one != 0 for one in apart)


@settings(deadline=None)
@given(BITS)
def test_sign_flips_of_right_and_wrong_are_mcnemars(rows: list[tuple[int, int]]) -> None:
    a, b = np.array(rows, float).T
    assert sign_flips(a, b).p == pytest.approx(mcnemar(a, b).p)


def test_many_clusters_are_sampled_and_near_scipys() -> None:
    generator = np.random.default_rng(1)
    apart = generator.normal(0.12, 0.5, 60)
    told = sign_flips(apart, np.zeros(60), flips=40_000)
    other = scipy.stats.permutation_test(
        (apart,), np.sum, permutation_type="samples", n_resamples=40_000, rng=2
    )
    assert told.p == pytest.approx(other.pvalue, abs=0.01)
    assert told.method == "sign flips, 40000 drawn"


def test_clusters_are_flipped_whole() -> None:
    a, clusters = [1.0] * 12, ["x"] * 6 + ["y"] * 6
    assert sign_flips(a, [0.0] * 12, clusters=clusters).p == 0.5
    assert sign_flips(a, [0.0] * 12).p == pytest.approx(2 * 0.5**12)


def test_differences_of_scores_are_a_paired_t_test() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.random((2, 40))
    told = difference(a, b)
    other = scipy.stats.ttest_rel(a, b)
    low, high = other.confidence_interval(0.95)
    assert (told.low, told.high) == pytest.approx((low, high))
    assert above(a - b) == pytest.approx(scipy.stats.t.cdf(other.statistic, 39))


def test_right_and_wrong_get_bonett_and_price() -> None:
    a, b = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [20, 9, 3, 8], axis=0).T
    told = difference(a, b)
    p10, p01 = (9 + 1) / 42, (3 + 1) / 42
    half = scipy.stats.norm.ppf(0.975) * math.sqrt((p10 + p01 - (p10 - p01) ** 2) / 42)
    assert told.low == pytest.approx(p10 - p01 - half)
    assert told.high == pytest.approx(p10 - p01 + half)
    assert told.value == pytest.approx(6 / 40)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_the_other_endpoint_first_mirrors_everything(rows: list[tuple[float, float, int]]) -> None:
    a, b, clusters = columns(rows)
    for groups in (None, clusters):
        one = compare(a, b, clusters=groups, flips=500)
        other = compare(b, a, clusters=groups, flips=500)
        mirrored = other.difference.mirrored()
        assert (one.difference.low, one.difference.high) == pytest.approx(
            (mirrored.low, mirrored.high), abs=1e-9
        )
        assert one.above == pytest.approx(1 - other.above, abs=1e-9)
        assert one.beats.low == pytest.approx(1 - other.beats.high, abs=1e-6)
        assert one.test == other.test
        assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.randoms())
def test_the_order_of_examples_does_not_matter(
    rows: list[tuple[float, float, int]], random: object
) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = (
        compare(a, b, clusters=c, flips=500) for a, b, c in (columns(rows), columns(mixed))
    )
    oracles.sound(one.difference, (-1.0, 1.0))
    oracles.sound(one.beats, (0.0, 1.0))
    assert 0 <= one.above <= 1
    assert one.test.p == pytest.approx(other.test.p)
    assert one.difference.low == pytest.approx(other.difference.low, abs=1e-9)


def test_what_is_missing_counts_as_the_caller_says() -> None:
    a, b = [1.0, math.nan, 1.0, 0.0], [0.0, 1.0, math.nan, 0.0]
    assert compare(a, b).difference.n == 2
    counted = compare(a, b, missing=0.0)
    assert (counted.wins, counted.ties, counted.losses) == (2, 1, 1)


def test_few_differences_are_told() -> None:
    a = np.r_[np.full(95, 0.5), np.full(5, 0.9)]
    assert difference(a, np.full(100, 0.5)).caveat is Caveat.FEW_DIFFER


def test_ahead_on_every_example_grows_surer_with_examples() -> None:
    told = [compare([1] * n, [0] * n, clusters=list(range(n))) for n in (1, 2, 5, 40)]
    chances = [one.above for one in told]
    assert chances == sorted(chances)
    assert chances[0] == 0.5
    assert chances[-1] > 0.999
    assert [one.test.p for one in told] == [1.0, 0.5, 2 * 0.5**5, 2 * 0.5**40]


@pytest.mark.parametrize("p_values", [[0.03], [0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 1.0, 0.0]])
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_monotone_and_adjusts_upwards(p_values: list[float]) -> None:
    adjusted, order = holm(p_values), np.argsort(p_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= np.asarray(p_values)).all()
    assert (adjusted <= 1).all()
    rejected = _rejected(p_values, 0.05)
    assert [one <= 0.05 for one in adjusted] == rejected


def _rejected(p_values: list[float], alpha: float) -> list[bool]:
    """Holm's own words: from the smallest upwards, until one is not small enough."""
    rejected = [False] * len(p_values)
    for step, place in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[place] * (len(p_values) - step) > alpha:
            break
        rejected[place] = True
    return rejected


def test_a_question_that_could_not_be_asked_counts() -> None:
    assert holm([0.01, math.nan, 0.02]).tolist() == pytest.approx([0.03, 1.0, 0.04])
    assert holm([]).size == 0


def test_slices_go_together() -> None:
    generator = np.random.default_rng(4)
    names = ["law", "", "art"] * 40
    a, b = generator.random((2, 120))
    told = by_slice(a, b, names, clusters=np.arange(120) // 2)
    assert [one.name for one in told] == ["art", "law"]
    chosen = [n for n, name in enumerate(names) if name == "law"]
    alone = difference(a[chosen], b[chosen], clusters=[n // 2 for n in chosen])
    assert told[1].difference == alone
    assert told[1].simultaneous.confidence == simultaneous(0.95, 2) == pytest.approx(0.975)
    for one in told:
        assert one.simultaneous.low <= one.difference.low
        assert one.adjusted >= one.test.p
    assert by_slice([], [], []) == ()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="outside of 0 to 1: it ranges from 0 to 5"):
        compare([0, 5], [1, 0])
    with pytest.raises(ValueError, match="0 or 1"):
        mcnemar([0.5], [1])
    with pytest.raises(ValueError, match="differ in length"):
        by_slice([1], [0], ["a", "b"])
