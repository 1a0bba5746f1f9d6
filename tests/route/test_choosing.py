"""Choices: the largest utility, never a cheaper one as the dial goes up, whatever order endpoints come in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcome_tables import planted

from daulat.route.learning.choosing import spent, steps

QUICK = settings(deadline=None)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, k = draw(st.integers(1, 6)), draw(st.integers(2, 4))
    score = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(-0.5, 1.5)
    scores = draw(st.lists(score, min_size=n * k, max_size=n * k))
    gaps = draw(st.lists(st.floats(1e-3, 10), min_size=k, max_size=k))
    return np.array(scores).reshape(n, k), np.cumsum(gaps)


@QUICK
@given(_cases(), st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_the_dial_is_monotone(case: tuple[np.ndarray, np.ndarray], worths: list[float]) -> None:
    found = steps(*case)
    previous = found.choose(np.inf)
    assert (previous == 0).all()
    for worth in [*sorted(worths, reverse=True), -np.inf]:
        chosen = found.choose(worth)
        assert (chosen >= previous).all()
        previous = chosen
    assert (previous == case[0].shape[1] - 1).all()


@QUICK
@given(_cases(), st.floats(-5, 5))
def test_what_is_chosen_has_the_largest_utility(
    case: tuple[np.ndarray, np.ndarray], worth: float
) -> None:
    expected, prices = case
    chosen = steps(expected, prices).choose(worth)
    utility = expected - worth * (prices - prices[0])
    best = utility.max(axis=1)
    assert utility[np.arange(len(chosen)), chosen] == pytest.approx(best, abs=1e-9)


@QUICK
@given(_cases(), st.floats(-5, 5), st.data())
def test_rows_are_chosen_one_by_one(
    case: tuple[np.ndarray, np.ndarray], worth: float, data: st.DataObject
) -> None:
    expected, prices = case
    order = data.draw(st.permutations(range(len(expected))))
    whole = steps(expected, prices).choose(worth)
    assert (steps(expected[order], prices).choose(worth) == whole[order]).all()


def test_constant_scores_stay_with_the_cheapest_endpoint() -> None:
    found = steps(np.full((5, 3), 0.7), np.array([0.0, 1.0, 2.0]))
    assert (found.choose(0.0) == 0).all()
    assert (found.choose(-1e-9) > 0).all()


def test_a_cascade_pays_for_the_answer_that_it_throws_away() -> None:
    table = planted(40, k=3)
    chosen = np.arange(40) % 3
    before, cascade = spent(table, chosen, "before"), spent(table, chosen, "cascade")
    away = (chosen > 0).mean()
    assert before.quality == cascade.quality
    assert before.share == cascade.share == pytest.approx(away)
    assert cascade.cost == pytest.approx(before.cost + away * 0.0)
    assert cascade.seconds == pytest.approx(before.seconds + away * 0.5)
