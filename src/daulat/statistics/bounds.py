"""Bounds on the mean of scores in [0, 1] that hold at every sample size, whatever the scores' distribution.

Each takes scores as [n] or [n, m], m variables measured on the same n examples, and gives one bound for each.
Lower bounds; the upper bound of x is one minus the lower bound of 1 - x. All assume examples that are drawn
independently from one distribution.

- right or wrong: C. Clopper, E. Pearson, Biometrika 26 (1934), which no other exact bound improves by much
- `hoeffding`: W. Hoeffding, JASA 58 (1963), theorem 1 with the relative entropy
- `hoeffding_bentkus`: the better of that and V. Bentkus, Annals of Probability 32 (2004), as in A.
  Angelopoulos, S. Bates, E. Candès, M. Jordan, L. Lei, "Learn then Test" (2021), section 3.1
- `bernstein`: A. Maurer, M. Pontil, "Empirical Bernstein bounds" (2009), theorem 4
- `betting`: I. Waudby-Smith, A. Ramdas, JRSS B 86 (2024), section 4: a gambler who bets against the mean being
  m, at stakes that depend on the scores before, gets rich with probability alpha at most if it is

Derivations: docs/statistics.md. Not here: intervals that hold about (`intervals`), several tests at once
(`testing`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daulat.statistics.samples import BOTH, Bounds, IntArray
from daulat.statistics.special import FloatArray, beta_quantiles, binomial_tails

BoolArray = NDArray[np.bool_]

_SHARE: Final = 0.75
"""Of all that a gambler owns, the most that is staked on one score (Waudby-Smith and Ramdas, section 4.2)."""
_HALVINGS: Final = 40


def share_at_least(successes: IntArray, n: int, alpha: float) -> FloatArray:
    """[m]: the lower bounds of shares, of `successes` in n, by Clopper and Pearson."""
    k = _counted(successes, n)
    found = beta_quantiles(alpha, np.maximum(k, 1.0), n - np.maximum(k, 1.0) + 1)
    return np.where(k > 0, found, 0.0)


def share_at_most(successes: IntArray, n: int, alpha: float) -> FloatArray:
    """[m]: the upper bounds."""
    return 1.0 - share_at_least(n - successes, n, alpha)


def hoeffding(scores: FloatArray, alpha: float) -> FloatArray:
    """[m]: the least mean m with n * kl(mean, m) <= log(1 / alpha)."""
    values = _scores(scores)
    mean = np.asarray(values.mean(axis=0), np.float64)
    limit = math.log(1 / alpha) / len(values)

    def held(at: FloatArray) -> BoolArray:
        return np.asarray(_entropy(mean, at) <= limit)

    return _least(held, mean)


def hoeffding_p(mean: FloatArray, n: int, target: float | FloatArray) -> FloatArray:
    """[m]: p-values of the hypotheses that the true means are at most `target`, from the means of n scores."""
    at = np.broadcast_to(np.asarray(target, np.float64), mean.shape)
    return np.exp(-n * _entropy(np.maximum(mean, at), at))


def hoeffding_bentkus_p(mean: FloatArray, n: int, target: float | FloatArray) -> FloatArray:
    """[m]: p-values of the hypotheses that the true means are at most `target`."""
    # Rounding must not turn a whole number of successes into the next.
    least = np.floor(n * mean + 1e-9)
    bentkus = math.e * binomial_tails(least, np.full_like(mean, float(n)), target)
    return np.minimum(1.0, np.minimum(hoeffding_p(mean, n, target), bentkus))


def hoeffding_bentkus(scores: FloatArray, alpha: float) -> FloatArray:
    """[m]: the least target that is not rejected."""
    values = _scores(scores)
    n = len(values)
    mean = np.asarray(values.mean(axis=0), np.float64)

    def held(at: FloatArray) -> BoolArray:
        return np.asarray(hoeffding_bentkus_p(mean, n, at) > alpha)

    return _least(held, mean)


def bernstein(scores: FloatArray, alpha: float) -> FloatArray:
    """[m]: mean - sqrt(2 V log(2 / alpha) / n) - 7 log(2 / alpha) / (3 (n - 1)), V the sample's variance."""
    values = _scores(scores)
    n = len(values)
    if n < 2:
        return np.zeros(int(values.shape[1]), np.float64)
    log = math.log(2 / alpha)
    mean, variance = (
        np.asarray(one, np.float64) for one in (values.mean(axis=0), values.var(axis=0, ddof=1))
    )
    error = np.sqrt(2 * variance * log / n) + 7 * log / (3 * (n - 1))
    return np.maximum(0.0, mean - error)


def betting(scores: FloatArray, alpha: float) -> FloatArray:
    """[m]: the means at which a gambler does not quite get 1 / alpha times rich by betting on more.

    Depends on the order of the scores, which must not depend on their values.
    """
    values = _scores(scores)
    stakes = _stakes(values, alpha)
    limit = math.log(1 / alpha)

    def held(at: FloatArray) -> BoolArray:
        return _fortune(values, at, stakes) < limit

    return _least(held, np.ones(int(values.shape[1]), np.float64))


def betting_p(scores: FloatArray, target: float, alpha: float) -> FloatArray:
    """[m]: p-values of the hypotheses that the true means are at most `target`.

    Args:
        alpha: the level at which the test is meant to decide; it only sets the stakes.
    """
    values = _scores(scores)
    at = np.full(values.shape[1], target)
    return np.exp(-np.maximum(0.0, _fortune(values, at, _stakes(values, alpha))))


def betting_interval(scores: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray]:
    """[m] and [m]: lower and upper bounds that hold together, of two gamblers with half of the capital each.

    The hedged capital of section 4.4 with equal halves, of which the larger is taken.
    """
    return betting(scores, alpha / 2), 1.0 - betting(1.0 - _scores(scores), alpha / 2)


def fixed_bets_p(values: FloatArray, stakes: FloatArray) -> FloatArray:
    """[m]: p-values of the hypotheses that means are at most 0: one over what a gambler owns at the end.

    The stakes are fixed beforehand, so that the order of the values makes no difference (Markov's inequality
    for a product of 1 + stake * value).

    Args:
        values: [n, m], each more than -1 / stake.
        stakes: [m], at least 0; sqrt(2 log(1 / alpha) / (n * variance)) is best where the test just decides.

    Raises:
        ValueError: a stake could lose all.
    """
    factors = 1.0 + stakes * values
    if factors.size and factors.min() <= 0:
        raise ValueError("A stake must not be able to lose all.")
    return np.exp(-np.maximum(0.0, np.log(factors).sum(axis=0)))


def band(n: int, alpha: float) -> float:
    """How far an empirical distribution function strays from the true one anywhere, but with probability alpha.

    P. Massart, Annals of Probability 18 (1990); also of every threshold that was chosen on the same examples.
    """
    return math.sqrt(math.log(2 / alpha) / (2 * n)) if n else 1.0


def ranged(lower: FloatArray, bounds: Bounds = BOTH) -> FloatArray:
    """A bound for scores in [0, 1] as one for the values that were moved there from `bounds`."""
    return bounds[0] + (bounds[1] - bounds[0]) * lower


# --- inside ------------------------------------------------------------------------------------------------


def _scores(scores: FloatArray) -> FloatArray:
    values = np.asarray(scores, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if len(values) == 0:
        raise ValueError("A bound needs at least one score.")
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("Scores lie in [0, 1].")
    return values


def _counted(successes: IntArray, n: int) -> FloatArray:
    k = np.asarray(successes, np.float64)
    if n < 1 or (k.size and (k.min() < 0 or k.max() > n)):
        raise ValueError(f"Successes lie between 0 and {n}, and there is at least one example.")
    return k


def _entropy(mean: FloatArray, at: FloatArray) -> FloatArray:
    """kl(mean, at) of two coins, [m]; 0 where they are equal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(mean > 0, mean * np.log(mean / at), 0.0)
        tails = np.where(mean < 1, (1 - mean) * np.log((1 - mean) / (1 - at)), 0.0)
    return np.maximum(0.0, heads + tails)


def _least(held: Callable[[FloatArray], BoolArray], most: FloatArray) -> FloatArray:
    """[m]: the least means in [0, most] that are held possible, from below."""
    low, high = np.zeros_like(most), most.copy()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        possible = held(middle)
        low, high = np.where(possible, low, middle), np.where(possible, middle, high)
    return low


def _stakes(values: FloatArray, alpha: float) -> FloatArray:
    """[n, m]: what is staked on each score, from the scores before it."""
    n = len(values)
    count = np.arange(1.0, n + 1)[:, None]
    mean = (0.5 + values.cumsum(axis=0)) / (count + 1)
    spread = (0.25 + ((values - mean) ** 2).cumsum(axis=0)) / (count + 1)
    before = np.vstack([np.full((1, values.shape[1]), 0.25), spread[:-1]])
    return np.sqrt(2 * math.log(1 / alpha) / (n * before))


def _fortune(values: FloatArray, at: FloatArray, stakes: FloatArray) -> FloatArray:
    """[m]: log of the most that the gambler ever owned, having begun with 1."""
    with np.errstate(divide="ignore"):
        staked = np.minimum(stakes, _SHARE / at)
    return np.maximum(0.0, np.log1p(staked * (values - at)).cumsum(axis=0).max(axis=0))
