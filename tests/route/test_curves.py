"""Curves against plain arithmetic, and RouteLLM's figures against its own steps written out slowly."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from daulat.route.learning.curves import exact, figures, published

QUICK = settings(deadline=None)

_SCORE = st.sampled_from([0.0, 0.5, 1.0])


@st.composite
def _cases(draw: st.DrawFn, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 12))
    need = st.integers(0, 4).map(float) if ties else st.floats(-5, 5)
    needs = draw(st.lists(need, min_size=n, max_size=n, unique=not ties))
    scores = [draw(st.lists(_SCORE, min_size=n, max_size=n)) for _ in range(2)]
    return np.array(needs), np.array(scores[0]), np.array(scores[1])


@QUICK
@given(_cases())
def test_the_exact_curve_is_every_threshold(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    need, cheap, dear = case
    curve = exact(need, cheap, dear)
    points = {(0.0, float(cheap.mean()))}
    for threshold in need:
        away = need >= threshold
        points.add((float(away.mean()), float(np.where(away, dear, cheap).mean())))
    expected = sorted(points)
    assert np.allclose(curve.share, [x for x, _ in expected])
    assert np.allclose(curve.quality, [y for _, y in expected])


@QUICK
@given(_cases(ties=False), st.floats(0, 1))
def test_share_for_is_the_least_share_that_reaches_it(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], quality: float
) -> None:
    curve = exact(*case)
    share = curve.share_for(quality)
    if math.isnan(share):
        assert curve.quality.max() < quality
    else:
        assert np.interp(share, curve.share, curve.quality) >= quality - 1e-9
        before = curve.share < share - 1e-12
        assert (curve.quality[before] < quality).all()


@QUICK
@given(_cases(), st.randoms())
def test_the_order_of_examples_does_not_matter(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], random: object
) -> None:
    need, cheap, dear = case
    order = np.arange(len(need))
    random.shuffle(order)  # pyright: ignore
    one, other = exact(need, cheap, dear), exact(need[order], cheap[order], dear[order])
    assert np.allclose(one.quality, other.quality)


def test_a_need_that_says_nothing_has_an_area_of_one_half() -> None:
    random = np.random.default_rng(1)
    cheap, dear = (random.random(500) < 0.6) * 1.0, (random.random(500) < 0.8) * 1.0
    assert exact(np.zeros(500), cheap, dear).apgr() == pytest.approx(0.5)
    assert exact(np.zeros(500), cheap, dear).cpt(0.8) == pytest.approx(80)


def test_no_gap_has_no_share_of_it() -> None:
    same = np.array([1.0, 0.0, 1.0])
    assert math.isnan(exact(np.arange(3.0), same, same).apgr())
    assert math.isnan(exact(np.arange(3.0), same, same).cpt(0.5))
    assert math.isnan(published(np.arange(3.0), same, same).apgr)
    assert exact(np.arange(3.0), same, same).keeping(0.95) == 0


def _slowly(need: list[float], cheap: list[float], dear: list[float]) -> tuple[float, ...]:
    """The steps of routellm/evals/evaluate.py, one after the other, in percent as there."""
    n = len(need)
    ordered = sorted(need)
    edges = []
    for i in range(11):
        # Rounded as pandas.qcut rounds: 0.3 * 50 is a little more than 15.
        at = float(np.linspace(0, 1, 11)[i] * 100) / 100 * (n - 1)
        low = math.floor(at)
        high = min(low + 1, n - 1)
        step = ordered[high] - ordered[low]
        part = at - low
        edges.append(
            ordered[low] + step * part if part < 0.5 else ordered[high] - step * (1 - part)
        )
    points = []
    for i, edge in enumerate(edges):
        away = [x > edge if i == 10 else x >= edge for x in need]
        got = [d if a else c for a, c, d in zip(away, cheap, dear, strict=True)]
        points.append((100 * sum(away) / n, 100 * sum(got) / n))
    points.sort(key=lambda p: p[0])
    weak, strong = 100 * sum(cheap) / n, 100 * sum(dear) / n
    area = sum((b[0] - a[0]) / 100 * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    width = (points[-1][0] - points[0][0]) / 100
    found = [(area - weak * width) / (strong * width - weak * width)]
    for part in (0.2, 0.5, 0.8):
        goal = weak + part * (strong - weak)
        found.append(float(np.interp(goal, [p[1] for p in points], [p[0] for p in points])))
    return tuple(found)


@QUICK
@given(st.integers(0, 10_000), st.integers(20, 80))
def test_published_figures_are_those_of_its_own_steps(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    need = random.normal(size=n)
    cheap, dear = (random.random(n) < 0.4) * 1.0, (random.random(n) < 0.8) * 1.0
    assume(dear.mean() > cheap.mean())
    found = published(need, cheap, dear)
    slow = _slowly(need.tolist(), cheap.tolist(), dear.tolist())
    assert (found.apgr, found.cpt20, found.cpt50, found.cpt80) == pytest.approx(slow)


def test_the_interval_covers_what_other_examples_give() -> None:
    random = np.random.default_rng(3)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        need = random.random(n)
        cheap = (random.random(n) < 0.9 - 0.6 * need) * 1.0
        return need, cheap, (random.random(n) < 0.85) * 1.0

    truth = exact(*draw(200_000)).apgr()
    covered = 0
    for _ in range(60):
        need, cheap, dear = draw(300)
        one = figures(need, cheap, dear, [str(i) for i in range(300)], draws=200).apgr
        assert one.low <= one.value <= one.high
        covered += one.low <= truth <= one.high
    assert covered >= 50


def test_copies_of_an_example_in_one_cluster_are_one_example() -> None:
    random = np.random.default_rng(4)
    need, cheap, dear = random.random(80), (random.random(80) < 0.5) * 1.0, np.ones(80)
    names = [str(i) for i in range(80)]
    once = figures(need, cheap, dear, names, draws=300)
    four = [np.repeat(one, 4) for one in (need, cheap, dear)]
    again = figures(*four, list(np.repeat(names, 4)), draws=300)
    assert once.apgr.value == pytest.approx(again.apgr.value)
    assert again.apgr.high - again.apgr.low == pytest.approx(
        once.apgr.high - once.apgr.low, rel=0.2
    )


def test_every_small_case_of_the_published_steps() -> None:
    for cheap, dear in product(product((0.0, 1.0), repeat=4), repeat=2):
        if sum(dear) > sum(cheap):
            need = [0.1, 0.4, 0.2, 0.9]
            found = published(np.array(need), np.array(cheap), np.array(dear))
            assert found.apgr == pytest.approx(_slowly(need, list(cheap), list(dear))[0])
