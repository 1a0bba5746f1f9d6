"""Several hypotheses at once: which may be rejected with one probability alpha of any wrong rejection.

Learn then Test (A. Angelopoulos, S. Bates, E. Candès, M. Jordan, L. Lei, 2021): each threshold of a router has
the hypothesis that it keeps too little, and every threshold whose hypothesis is rejected may be used. Which is
chosen among them, and how, makes no difference to the guarantee.

- `fixed_sequence`: in an order that was fixed beforehand, each at the full alpha, until the first that is not
  rejected (P. Bauer, Statistics in Medicine 10 (1991)); strongest where neighbours are alike, as thresholds are
- `graphical`: every hypothesis has a share of alpha and passes it on when it is rejected (F. Bretz, W. Maurer,
  W. Brannath, M. Posch, Statistics in Medicine 28 (2009)); fixed sequences and Holm's procedure are such graphs
- `bonferroni`: no order, no passing on

Any dependence between the p-values is allowed. Not here: p-values (`bounds`, `keeping`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from daulat.statistics.special import FloatArray

BoolArray = NDArray[np.bool_]


def fixed_sequence(p_values: FloatArray, alpha: float, starts: int = 1) -> BoolArray:
    """[m]: which are rejected, of hypotheses in the order in which they are to be tested.

    Args:
        starts: so many sequences begin at even distances, each with alpha / starts, and run to the end.

    Raises:
        ValueError: alpha is not in (0, 1), or there is no start.
    """
    p = _checked(p_values, alpha)
    if starts < 1:
        raise ValueError("There is at least one start.")
    rejected = np.zeros(len(p), np.bool_)
    for start in {round(one * len(p) / starts) for one in range(starts)}:
        failed = np.flatnonzero(~(p[start:] <= alpha / starts))
        rejected[start : start + failed[0] if failed.size else len(p)] = True
    return rejected


def bonferroni(p_values: FloatArray, alpha: float) -> BoolArray:
    """[m]: which are rejected, each at alpha / m."""
    p = _checked(p_values, alpha)
    return p <= alpha / max(1, len(p))


def graphical(
    p_values: FloatArray, alpha: float, shares: FloatArray, passed: FloatArray
) -> BoolArray:
    """[m]: which are rejected.

    Args:
        shares: [m] of alpha, at least 0, together at most 1.
        passed: [m, m]: of its share, what the one in the row gives to the one in the column when it is
            rejected; at least 0, rows together at most 1, 0 on the diagonal.

    Raises:
        ValueError: one of them is not so.
    """
    p = _checked(p_values, alpha)
    weights, paths = shares.astype(np.float64), passed.astype(np.float64)
    _check_graph(weights, paths, len(p))
    rejected = np.zeros(len(p), np.bool_)
    while True:
        ready = np.flatnonzero(~rejected & (weights > 0) & (p <= alpha * weights))
        if not ready.size:
            return rejected
        one = int(ready[0])
        rejected[one] = True
        weights, paths = _without(one, weights, paths, rejected)


def _without(
    one: int, weights: FloatArray, paths: FloatArray, rejected: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """The graph when one is rejected: its share and paths go to the others (Bretz et al., algorithm 1)."""
    given = weights + weights[one] * paths[one]
    around = paths[:, one] * paths[one, :]
    through = paths + np.outer(paths[:, one], paths[one, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        updated = np.where(around[:, None] < 1, through / (1 - around[:, None]), 0.0)
    np.fill_diagonal(updated, 0.0)
    given[rejected], updated[rejected], updated[:, rejected] = 0.0, 0.0, 0.0
    return given, updated


def _check_graph(shares: FloatArray, passed: FloatArray, count: int) -> None:
    if shares.shape != (count,) or passed.shape != (count, count):
        raise ValueError(f"{count} hypotheses need {count} shares and {count} by {count} paths.")
    near = 1 + 1e-9
    if count and (shares.min() < 0 or shares.sum() > near or passed.min() < 0):
        raise ValueError("Shares and paths are at least 0, and shares together at most 1.")
    if count and (passed.sum(axis=1).max() > near or np.diag(passed).any()):
        raise ValueError(
            "What is passed on is at most 1 together, and nothing goes back to itself."
        )


def _checked(p_values: FloatArray, alpha: float) -> FloatArray:
    if not 0 < alpha < 1:
        raise ValueError(f"A probability of error lies between 0 and 1, and {alpha} does not.")
    return np.asarray(p_values, np.float64)
