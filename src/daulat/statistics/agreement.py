"""How far those agree who judge the same things: raw agreement, Cohen's kappa, Krippendorff's alpha.

Both coefficients are 1 where all agree and 0 where they agree as often as chance would have it; below 0 they
contradict each other. J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
Measurement 20 (1960), weighted: Psychological Bulletin 70 (1968); K. Krippendorff, "Computing Krippendorff's
alpha-reliability" (2011). Intervals draw the things that were judged again (BCa bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from daulat.statistics.bootstrap import DRAWS, Figure, bca
from daulat.statistics.samples import BOTH, Caveat, Estimate, Numbers, Sample, sample, unknown
from daulat.statistics.special import FloatArray

Distance = Literal["nominal", "interval"]
"""How far two values are apart: `nominal`: another value is another value; `interval`: by the square of their
difference."""

MOST_VALUES = 101
"""Different values that `nominal` takes."""
_SMALL = 1e-12


@dataclass(frozen=True, slots=True)
class Agreement:
    """What several raters said of the same things.

    Attributes:
        alpha: Krippendorff's; its n counts the things with two values or more.
        kappa: Cohen's, with squared weights where the distance is `interval`; None: not two raters.
        share: of pairs of values of one thing, those that are equal; None: there are none.
        raters: who gave any value.
    """

    alpha: Estimate
    kappa: Estimate | None
    share: float | None
    raters: int


def agreement(
    ratings: ArrayLike,
    *,
    distance: Distance = "nominal",
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> Agreement:
    """The agreement of several raters.

    Args:
        ratings: [n things, r raters]; NaN: that rater said nothing of it.

    Raises:
        ValueError: not two dimensions, a value is infinite, or a nominal scale has more than 101 values.
    """
    table = np.asarray(ratings, np.float64)
    if table.ndim != 2:
        raise ValueError(f"Things x raters are wanted, not {table.ndim} dimensions.")
    if np.isinf(table).any():
        raise ValueError("A value is infinite; give NaN for what is missing.")
    heard = table[:, ~np.isnan(table).all(axis=0)]
    paired = heard[(~np.isnan(heard)).sum(axis=1) >= 2]
    two = heard.shape[1] == 2
    return Agreement(
        alpha=_alpha(paired, distance, confidence, draws),
        kappa=cohen(*heard.T, distance=distance, confidence=confidence, draws=draws)
        if two
        else None,
        share=_share(paired),
        raters=heard.shape[1],
    )


def cohen(
    a: Numbers,
    b: Numbers,
    *,
    distance: Distance = "nominal",
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> Estimate:
    """Cohen's kappa of two raters: 1 - observed distance / distance of independent raters with their habits.

    Args:
        a, b: [n]; NaN: nothing was said; such a thing is left out.

    Raises:
        ValueError: the lengths differ, or a nominal scale has more than 101 values.
    """
    found = sample(a, b)
    one, other = found.values.T
    if distance == "interval":
        columns = [one, other, one**2, other**2, (one - other) ** 2, np.ones(found.n)]
        figure = _squared_kappa
    else:
        values = _values(found.values)
        columns = [*(one[:, None] == values).T, *(other[:, None] == values).T]
        columns = [*columns, one != other, np.ones(found.n)]
        figure = _nominal_kappa
    return _estimate(found, np.stack(columns, axis=1).astype(np.float64), figure, confidence, draws)


def _alpha(paired: FloatArray, distance: Distance, confidence: float, draws: int) -> Estimate:
    """From, of each thing, the distance within it, and what its values add to all pairs of values."""
    there = ~np.isnan(paired)
    count = there.sum(axis=1).astype(np.float64)
    filled = np.where(there, paired, 0.0)
    sums, squares = filled.sum(axis=1), (filled**2).sum(axis=1)
    if distance == "interval":
        # The sum over ordered pairs of (x - y)^2 is 2 (m sum x^2 - (sum x)^2).
        within = 2 * (count * squares - sums**2) / np.maximum(count - 1, 1)
        columns, figure = [within, sums, squares, count], _interval_alpha
    else:
        values = _values(paired)
        counts = (filled[:, :, None] == values).astype(np.float64) * there[:, :, None]
        each = counts.sum(axis=1)
        within = (count**2 - (each**2).sum(axis=1)) / np.maximum(count - 1, 1)
        columns, figure = [within, *each.T, count], _nominal_alpha
    return _estimate(sample(count), np.stack(columns, axis=1), figure, confidence, draws)


def _estimate(
    found: Sample, columns: FloatArray, figure: Figure, confidence: float, draws: int
) -> Estimate:
    method = "BCa bootstrap"
    if not found.n:
        return unknown(found, BOTH, confidence, method, Caveat.EMPTY)
    value = float(figure(columns.sum(axis=0, keepdims=True))[0])
    if np.isnan(value):
        return unknown(found, BOTH, confidence, method, Caveat.CONSTANT)
    return bca(
        found, columns, lambda totals: _known(figure(totals)), value, confidence, BOTH, draws
    )


def _known(values: FloatArray) -> FloatArray:
    """A draw in which all values are equal shows agreement alone."""
    return np.where(np.isnan(values), 1.0, values)


# --- figures of totals, [draws, columns] -> [draws]; NaN: chance alone leaves no distance -----------------


def _quotient(observed: FloatArray, expected: FloatArray) -> FloatArray:
    none = expected <= _SMALL
    return np.where(none, np.nan, 1 - observed / np.where(none, 1.0, expected))


def _interval_alpha(totals: FloatArray) -> FloatArray:
    within, sums, squares, n = totals.T
    expected = 2 * (n * squares - sums**2) / (n * np.maximum(n - 1, 1))
    return _quotient(within / n, expected)


def _nominal_alpha(totals: FloatArray) -> FloatArray:
    within, counts, n = totals[:, 0], totals[:, 1:-1], totals[:, -1]
    expected = (n**2 - (counts**2).sum(axis=1)) / (n * np.maximum(n - 1, 1))
    return _quotient(within / n, expected)


def _squared_kappa(totals: FloatArray) -> FloatArray:
    one, other, squares, others, apart, n = totals.T
    expected = (squares + others) / n - 2 * one * other / n**2
    return _quotient(apart / n, expected)


def _nominal_kappa(totals: FloatArray) -> FloatArray:
    apart, n = totals[:, -2], totals[:, -1]
    one, other = np.split(totals[:, :-2], 2, axis=1)
    return _quotient(apart / n, 1 - (one * other).sum(axis=1) / n**2)


def _values(table: FloatArray) -> FloatArray:
    """The different values.

    Raises:
        ValueError: there are more than 101.
    """
    values = np.unique(table[~np.isnan(table)])
    if len(values) > MOST_VALUES:
        raise ValueError(f"A nominal scale has at most {MOST_VALUES} values, not {len(values)}.")
    return values


def _share(paired: FloatArray) -> float | None:
    same = pairs = 0
    for one in range(paired.shape[1]):
        for other in range(one):
            both = ~np.isnan(paired[:, one]) & ~np.isnan(paired[:, other])
            pairs += int(both.sum())
            same += int((paired[both, one] == paired[both, other]).sum())
    return same / pairs if pairs else None
