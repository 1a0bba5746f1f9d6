"""Agreement of raters: published examples, plain oracles, and what must hold for any ratings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.statistics.agreement import agreement, cohen
from daulat.statistics.samples import Caveat

N = np.nan
# K. Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), example C: four observers, twelve units.
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T


def plain_alpha(table: np.ndarray, distance: str) -> float:
    """By the definition: every pair of values, one by one."""
    rows = [[v for v in row if not np.isnan(v)] for row in table]
    rows = [row for row in rows if len(row) >= 2]
    apart = (lambda x, y: float(x != y)) if distance == "nominal" else (lambda x, y: (x - y) ** 2)
    n = sum(map(len, rows))
    observed = sum(
        apart(x, y) / (len(row) - 1) for row in rows for x, y in itertools.permutations(row, 2)
    )
    every = [v for row in rows for v in row]
    expected = sum(apart(x, y) for x, y in itertools.permutations(every, 2)) / (n - 1)
    return 1 - observed / expected


@pytest.mark.parametrize(("distance", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_krippendorffs_own_example(distance: str, alpha: float) -> None:
    found = agreement(KRIPPENDORFF, distance=distance).alpha
    assert found.value == pytest.approx(alpha, abs=0.0006)
    assert found.n == 11
    assert found.low < alpha < found.high


def test_cohens_own_table() -> None:
    """J. Cohen (1960): 200 judged into three categories; they agree on .70, and by chance on .41."""
    table = {(0, 0): 88, (0, 1): 14, (0, 2): 18, (1, 0): 10, (1, 1): 40, (1, 2): 10}
    table |= {(2, 0): 2, (2, 1): 6, (2, 2): 12}
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    a, b = zip(*pairs, strict=True)
    assert cohen(a, b).value == pytest.approx(0.492, abs=0.0005)


RATINGS = st.integers(2, 4).flatmap(
    lambda raters: st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, N]), min_size=raters, max_size=raters),
        min_size=2,
        max_size=12,
    )
)


@settings(max_examples=150, deadline=None)
@given(RATINGS, st.sampled_from(["nominal", "interval"]))
def test_the_definition_gives_the_same(rows: list[list[float]], distance: str) -> None:
    table = np.array(rows)
    found = agreement(table, distance=distance, draws=100)
    told = [row[~np.isnan(row)] for row in table if (~np.isnan(row)).sum() >= 2]
    if found.alpha.value is None:
        assert not told or len(np.unique(np.concatenate(told))) == 1
        return
    assert found.alpha.value == pytest.approx(plain_alpha(table, distance))
    assert -1 <= found.alpha.low <= found.alpha.value <= found.alpha.high <= 1


@settings(max_examples=60, deadline=None)
@given(RATINGS, st.randoms(use_true_random=False))
def test_neither_the_order_of_raters_nor_of_things_matters(rows: list[list[float]], random) -> None:
    table = np.array(rows)
    things, raters = list(range(len(table))), list(range(table.shape[1]))
    random.shuffle(things)
    random.shuffle(raters)
    one = agreement(table, draws=100)
    other = agreement(table[things][:, raters], draws=100)
    assert one.share == other.share
    assert one.alpha.value == pytest.approx(other.alpha.value)


def test_interval_of_two_raters_covers() -> None:
    """Two raters who agree three times out of four have a kappa of one half: 60 things tell so, 95 times in
    100."""
    generator = np.random.default_rng(5)
    truth, covered = 0.5, 0
    for _ in range(200):
        a = generator.integers(0, 2, 60)
        b = np.where(generator.random(60) < 0.75, a, 1 - a)
        covered += truth in cohen(a, b, draws=1000)
    assert covered >= 180


def test_what_says_nothing_says_so() -> None:
    nobody = agreement(np.full((3, 2), N))
    assert nobody.alpha.caveat is Caveat.EMPTY
    assert nobody.kappa is None
    assert nobody.share is None
    same = agreement(np.ones((5, 2)))
    assert same.alpha.caveat is Caveat.CONSTANT
    assert same.share == 1.0
    alone = agreement(np.array([[1.0, N], [0.0, N]]))
    assert alone.raters == 1
    assert alone.alpha.value is None
    with pytest.raises(ValueError, match="101"):
        agreement(np.arange(400.0).reshape(200, 2))
    with pytest.raises(ValueError, match="infinite"):
        agreement(np.array([[1.0, np.inf]]))


def test_perfect_agreement_is_one_with_an_interval() -> None:
    found = agreement(np.array([[0.0, 0.0], [1.0, 1.0]] * 10))
    assert found.alpha.value == found.alpha.high == 1.0
    assert found.alpha.low < 1.0
