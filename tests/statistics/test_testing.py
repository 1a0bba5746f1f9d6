"""Several tests at once: against mapie and statsmodels, all subsets of hypotheses, and by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control.fwer_control import FWERFixedSequenceTesting
from statsmodels.stats.multitest import multipletests

from daulat.statistics import testing

P_VALUES = st.lists(st.floats(0, 0.2), min_size=1, max_size=6).map(np.array)
ALPHA = 0.05


def test_a_sequence_stops_at_the_first_that_is_not_rejected() -> None:
    p = np.array([0.01, 0.049, 0.051, 0.0])
    assert testing.fixed_sequence(p, ALPHA).tolist() == [True, True, False, False]
    assert testing.fixed_sequence(np.array([np.nan, 0.0]), ALPHA).tolist() == [False, False]
    assert testing.fixed_sequence(np.zeros(3), ALPHA).all()
    assert testing.fixed_sequence(np.zeros(0), ALPHA).tolist() == []


def test_more_starts_share_the_error() -> None:
    p = np.array([0.9, 0.9, 0.02, 0.03, 0.9, 0.0])
    assert not testing.fixed_sequence(p, ALPHA).any()
    found = testing.fixed_sequence(p, ALPHA, starts=3)  # at 0, 2 and 4, each with 0.0167
    assert found.tolist() == [False, False, False, False, False, False]
    p[2] = 0.01
    assert testing.fixed_sequence(p, ALPHA, starts=3).tolist() == [False, False, True, *[False] * 3]


@settings(deadline=None)
@given(p=P_VALUES)
def test_one_start_is_that_of_mapie(p: np.ndarray) -> None:
    theirs = FWERFixedSequenceTesting(n_starts=1).run(p, ALPHA)
    assert testing.fixed_sequence(p, ALPHA).nonzero()[0].tolist() == list(theirs)


def _holm(count: int) -> tuple[np.ndarray, np.ndarray]:
    passed = np.full((count, count), 1 / max(1, count - 1))
    np.fill_diagonal(passed, 0.0)
    return np.full(count, 1 / count), passed


@settings(deadline=None)
@given(p=P_VALUES)
def test_holm_and_fixed_sequences_are_graphs(p: np.ndarray) -> None:
    shares, passed = _holm(len(p))
    if len(p) > 1:
        theirs = multipletests(p, ALPHA, method="holm")[0]
        assert testing.graphical(p, ALPHA, shares, passed).tolist() == theirs.tolist()
    first, chain = np.eye(len(p))[0], np.eye(len(p), k=1)
    found = testing.graphical(p, ALPHA, first, chain)
    assert found.tolist() == testing.fixed_sequence(p, ALPHA).tolist()
    assert (
        testing.graphical(p, ALPHA, shares, 0 * passed).tolist() == (p <= ALPHA / len(p)).tolist()
    )


def closed(p: np.ndarray, shares: np.ndarray, passed: np.ndarray) -> list[bool]:
    """The slow way: a hypothesis is rejected if every set that it is in is, each by weighted Bonferroni."""
    every = range(len(p))
    fallen: set[frozenset[int]] = set()
    for size in range(1, len(p) + 1):
        for chosen in itertools.combinations(every, size):
            weights, paths = shares.copy(), passed.copy()
            for gone in set(every) - set(chosen):
                weights, paths = _removed(gone, weights, paths)
            if any(weights[i] > 0 and p[i] <= ALPHA * weights[i] for i in chosen):
                fallen.add(frozenset(chosen))
    sets = [frozenset(c) for n in range(1, len(p) + 1) for c in itertools.combinations(every, n)]
    return [all(one in fallen for one in sets if i in one) for i in every]


def _removed(gone: int, weights: np.ndarray, paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bretz and others' update, in loops."""
    n = len(weights)
    given_, updated = np.zeros(n), np.zeros((n, n))
    for i in range(n):
        if i == gone:
            continue
        given_[i] = weights[i] + weights[gone] * paths[gone, i]
        for j in range(n):
            around = paths[i, gone] * paths[gone, i]
            if j not in (i, gone) and around < 1:
                updated[i, j] = (paths[i, j] + paths[i, gone] * paths[gone, j]) / (1 - around)
    return given_, updated


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_graph_is_a_closed_test(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 4))
    p = np.array(data.draw(st.lists(st.floats(0, 0.1), min_size=count, max_size=count)))
    raw = data.draw(st.lists(st.integers(0, 3), min_size=count * count, max_size=count * count))
    passed = np.array(raw, float).reshape(count, count)
    np.fill_diagonal(passed, 0.0)
    passed /= np.maximum(1, passed.sum(axis=1, keepdims=True))
    shares = np.full(count, 1 / count)
    assert testing.graphical(p, ALPHA, shares, passed).tolist() == closed(p, shares, passed)


def test_wrong_rejections_are_as_rare_as_they_say() -> None:
    """Twenty thresholds whose first five are worse than allowed, in the worst place: alone at the front."""
    rng, trials, wrong = np.random.default_rng(0), 3000, 0
    for _ in range(trials):
        shared = rng.normal()
        p = scipy.stats.norm.sf(np.r_[np.full(5, shared), 3 + rng.normal(size=15)])
        wrong += testing.fixed_sequence(p, ALPHA)[:5].any()
    assert scipy.stats.binom.sf(wrong - 1, trials, ALPHA) > 1e-4


def test_bonferroni_is_that_of_statsmodels() -> None:
    p = np.array([0.001, 0.01, 0.02, 0.5])
    theirs = multipletests(p, ALPHA, method="bonferroni")[0]
    assert testing.bonferroni(p, ALPHA).tolist() == theirs.tolist()


def test_what_cannot_be_is_refused() -> None:
    p = np.array([0.1, 0.2])
    for alpha in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="probability of error"):
            testing.fixed_sequence(p, alpha)
    with pytest.raises(ValueError, match="start"):
        testing.fixed_sequence(p, ALPHA, starts=0)
    with pytest.raises(ValueError, match="need 2 shares"):
        testing.graphical(p, ALPHA, np.ones(1), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="together at most 1"):
        testing.graphical(p, ALPHA, np.array([0.7, 0.7]), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="back to itself"):
        testing.graphical(p, ALPHA, np.array([0.5, 0.5]), np.eye(2))
