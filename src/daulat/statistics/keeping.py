"""Exact tests that answers keep a share of other answers' quality, where each is right or wrong.

Of n examples, `both` were answered rightly by both, `gained` by the first alone, `lost` by the second alone.
The hypothesis to reject is that P(first right) < keep * P(second right). The statistic is the score statistic
with the variance of the restricted maximum likelihood (J. Nam, W. Blackwelder, Statistics in Medicine 21
(2002)); its critical value is exact in the sense of Barnard: the probability of reaching it is at most alpha
for every distribution of the hypothesis, found as the largest over the two parameters that the hypothesis
leaves open (I. Chan, N. Tang, M. Tang, P. Chan, Biometrics 59 (2003), for two proportions' ratio). The second's
own quality, one of the two, is known from the same examples up to a small probability, which alpha pays for
(R. Berger, D. Boos, JASA 89 (1994)).

With values d of 1 (gained), -keep (lost), 1 - keep (both) and 0 (neither), the hypothesis is E[d] < 0, and the
restricted likelihood gives the observed counts N the weights N / (1 + x d), with the x at which their mean of
d is zero. Derivation and assumptions: docs/statistics.md. Not here: graded scores (`bounds`), thresholds
(`testing`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daulat.statistics.samples import IntArray
from daulat.statistics.special import (
    FloatArray,
    beta_quantile,
    binomial_tails,
    log_factorials,
    normal_quantile,
)

BoolArray = NDArray[np.bool_]

LARGEST: Final = 4000
"""Examples up to which the critical value is computed; more are held to that of so many, which is larger."""
_STEPS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 1.0)
"""What the range of the second's quality is rounded out to, so that few critical values serve all data."""
_PAID: Final = 0.01
"""The share of alpha that it costs to know this range."""
_SPARE: Final = 0.01
"""The share of alpha that is left unused, for what lies between the points that are looked at."""
_WIDE: Final = 5.0
"""Standard deviations that are summed over; what is beyond counts as rejected."""
_DENSE: Final = 4.0
"""Of how often the second is right, so many counts in a standard deviation are summed over at least."""
_FINE: Final = 5e-4
"""How closely a critical value is found, from above."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of n examples, for several first answerers at once.

    Attributes:
        n: examples.
        gained: int64 [m], the first alone was right.
        lost: int64 [m], the second alone was right.
        both: int64 [m], both were right.
    """

    n: int
    gained: IntArray
    lost: IntArray
    both: IntArray


def statistic(counts: Counts, keep: float) -> FloatArray:
    """float64 [m]: the score statistic; about standard normal where quality is kept exactly; at least 0.

    Args:
        keep: in (0, 1].

    Raises:
        ValueError: keep is not in (0, 1].
    """
    _check(keep)
    gained, lost, both = (
        one.astype(np.float64) for one in (counts.gained, counts.lost, counts.both)
    )
    return _statistic(gained, lost, both, keep)


def keeps(counts: Counts, keep: float, alpha: float) -> BoolArray:
    """bool [m]: whether it is shown, wrongly with probability alpha at most, that keep is reached.

    Raises:
        ValueError: keep is not in (0, 1], or alpha not in (0, 0.5].
    """
    _check(keep, alpha)
    reached, (low, high) = statistic(counts, keep), _within((1 - _PAID) * alpha)
    if not ((reached >= low) & (reached < high)).any():
        return reached >= high
    value = critical_value(
        min(counts.n, LARGEST), keep, (1 - _PAID) * alpha, *_quality(counts, _PAID * alpha)
    )
    return reached >= value


def p_values(counts: Counts, keep: float) -> FloatArray:
    """float64 [m]: the probability of such counts or better ones where keep is not reached, at the most.

    Each takes a search over distributions: for a few counts, not for hundreds.
    """
    _check(keep)
    n, paid = min(counts.n, LARGEST), 1e-4
    places = _places(n, keep, *_quality(counts, paid))
    reached = [float(one) for one in statistic(counts, keep)]
    found = [_largest(n, keep, one, places)[0] + paid if one > 0 else 1.0 for one in reached]
    return np.minimum(1.0, np.array(found))


def kept_at_least(counts: Counts, alpha: float, step: float = 1e-3) -> float:
    """The largest multiple of `step` in [0, 1] that the one set of counts shows to be kept; 0: none.

    A lower bound with confidence 1 - alpha, since the hypotheses of different shares lie within each other.
    """
    shares = np.arange(1, round(1 / step) + 1) * step
    reached = np.array([statistic(counts, float(share))[0] for share in shares])
    low, high = _within((1 - _PAID) * alpha)
    quality = _quality(counts, _PAID * alpha)
    lowest, highest = int((reached >= high).sum()), int((reached >= low).sum())
    while lowest < highest:
        middle = (lowest + highest + 1) // 2
        value, share = float(reached[middle - 1]), float(shares[middle - 1])
        if _is_critical(min(counts.n, LARGEST), share, value, (1 - _PAID) * alpha, quality):
            lowest = middle
        else:
            highest = middle - 1
    return float(shares[lowest - 1]) if lowest else 0.0


def _check(keep: float, alpha: float = 0.5) -> None:
    if not 0 < keep <= 1:
        raise ValueError(f"A share to keep lies in (0, 1], and {keep} does not.")
    if not 0 < alpha <= 0.5:
        raise ValueError(f"A probability of error lies in (0, 0.5], and {alpha} does not.")


def _quality(counts: Counts, paid: float) -> tuple[float, float]:
    """Where P(second right) lies, but with a probability of `paid`: Clopper-Pearson, rounded outwards."""
    if not counts.lost.size:
        return 0.0, 1.0
    right = counts.lost + counts.both
    least, most = float(right.min()), float(right.max())
    low = beta_quantile(paid / 2, least, counts.n - least + 1) if least else 0.0
    high = beta_quantile(1 - paid / 2, most + 1, counts.n - most) if most < counts.n else 1.0
    return max(s for s in _STEPS if s <= low), min(s for s in _STEPS if s >= high)


def _statistic(gained: FloatArray, lost: FloatArray, both: FloatArray, keep: float) -> FloatArray:
    spare = 1 - keep
    excess = gained + spare * both - keep * lost
    squared = -keep * spare * (gained + both + lost)
    linear = (spare - keep) * gained + spare**2 * both - keep * (1 + spare) * lost
    above = np.maximum(excess, 0.0)  # only where quality seems kept is the statistic of use
    root = np.sqrt(linear**2 - 4 * squared * above)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = 2 * above / (root - linear)
        variance = (1 + keep) * gained / (1 + weight) + spare * both / (1 + spare * weight)
        return np.where(above > 0, above / np.sqrt(variance), 0.0)


# --- the critical value ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """A distribution on the edge of the hypothesis: P(second right), P(second alone right)."""

    right: float
    lost: float


@lru_cache(maxsize=4096)
def critical_value(n: int, keep: float, alpha: float, low: float = 0.0, high: float = 1.0) -> float:
    """The least t with P(statistic >= t) <= alpha wherever keep is not reached; found from above, to 0.0005.

    Args:
        low, high: where P(second right) lies.
    """
    target = (1 - _SPARE) * alpha
    places = _places(n, keep, low, high)
    below, above = _within(alpha)
    worst: list[_Place] = []
    while above - below > _FINE:
        middle = (below + above) / 2
        # Where one place was too likely, it mostly still is: it is asked first.
        if any(_probability(n, keep, middle, one) > target for one in worst):
            below = middle
            continue
        found, place = _largest(n, keep, middle, places, enough=target)
        if found > target:
            below = middle
            worst.insert(0, place)
        else:
            above = middle
    return above


def _within(alpha: float) -> tuple[float, float]:
    """Where critical values are looked for."""
    normal = normal_quantile(1 - alpha)
    return normal - 0.25, normal + 1.0


def _is_critical(
    n: int, keep: float, value: float, alpha: float, quality: tuple[float, float]
) -> bool:
    """Whether `critical_value` is at most this; quicker than to find it."""
    target = (1 - _SPARE) * alpha
    places = _places(n, keep, *quality)
    return _largest(n, keep, value - _FINE, places, enough=target)[0] <= target


def _largest(
    n: int, keep: float, value: float, places: list[_Place], enough: float = 1.0
) -> tuple[float, _Place]:
    """The largest P(statistic >= value) over the places and what is near the best of them.

    Args:
        enough: one that is larger than this will do.
    """
    known = {one: _probability(n, keep, value, one) for one in places}
    rights = [one.right for one in places]
    for best in sorted(known, key=known.__getitem__)[-4:]:
        centre, width = best, 0.3
        while width > 0.02 and known[centre] <= enough:
            near = _around(centre, keep, width, min(rights), max(rights))
            known.update(
                (one, _probability(n, keep, value, one)) for one in near if one not in known
            )
            best_near = max(near, key=known.__getitem__)
            if known[best_near] > known[centre]:
                centre = best_near
            else:
                width /= 2
    top = max(known, key=known.__getitem__)
    return known[top], top


def _places(n: int, keep: float, low: float, high: float) -> list[_Place]:
    """Points of the edge, dense where few examples are right or lost."""
    arc = [math.asin(math.sqrt(one)) for one in (low, high)]
    count = 3 + round(8 * (arc[1] - arc[0]))
    rights = {max(1e-9, float(one)) for one in np.sin(np.linspace(arc[0], arc[1], count)) ** 2}
    few = {count / n for count in (1, 2, 3, 4, 6, 9, 14, 21, 32, 50, 80)}
    corner = 1 / (1 + keep)  # all examples may be lost or gained
    rights |= {one for one in (*few, corner) if low < one < high}
    return [
        _Place(right, lost)
        for right in sorted(rights)
        for lost in sorted(set(_losses(n, keep, right)))
    ]


def _losses(n: int, keep: float, right: float) -> list[float]:
    low, high = _range(keep, right)
    spread = [low + (high - low) * (1 - math.cos(one)) / 2 for one in np.linspace(0, math.pi, 13)]
    few = [count / n for count in (1, 2, 3, 4.5, 7, 11, 17, 30)]
    return [*spread, *(one for one in few if low < one < high)]


def _range(keep: float, right: float) -> tuple[float, float]:
    """What P(second alone right) may be, so that all four probabilities lie in [0, 1]."""
    low = (1 - keep) * right
    return low, max(low, min(right, 1 - keep * right))


def _around(centre: _Place, keep: float, width: float, least: float, most: float) -> list[_Place]:
    """Its neighbours, whose probabilities are so much larger or smaller."""
    found: list[_Place] = []
    more, less = 1 + width, 1 / (1 + width)
    for right, lost in ((less, 1), (more, 1), (1, less), (1, more), (less, less), (more, more)):
        within = min(most, max(least, centre.right * right))
        low, high = _range(keep, within)
        found.append(_Place(within, min(high, max(low, centre.lost * lost))))
    return found


def _probability(n: int, keep: float, value: float, place: _Place) -> float:
    """P(statistic >= value) there, from above.

    Given how often the second is right, losses and gains are independent binomials.
    """
    right, spacing = _window(n, place.right, spaced=True)
    lost, _ = _window(n, place.lost)
    loss = min(1.0, place.lost / place.right) if place.right else 0.0
    gain = _gain(keep, place)
    of_right = spacing * _binomial(right, n, place.right)
    of_lost = _binomial(lost[None, :], right[:, None], loss)
    weights = of_right[:, None] * of_lost
    wrong = n - right[:, None]
    needed = _needed(n, keep, value, right[:, None], lost[None, :])
    total = float(
        (weights * binomial_tails(needed, np.broadcast_to(wrong, needed.shape), gain)).sum()
    )
    return total + max(0.0, 1.0 - float(weights.sum()))


def _gain(keep: float, place: _Place) -> float:
    """P(first right | second wrong) that makes up for the losses but for what need not be kept."""
    gain = max(0.0, place.lost - (1 - keep) * place.right)
    return min(1.0, gain / (1 - place.right)) if place.right < 1 else 0.0


def _window(n: int, p: float, *, spaced: bool = False) -> tuple[FloatArray, int]:
    """The counts that are not next to impossible; spaced: only every so many, which a sum can do with."""
    deviation = math.sqrt(n * p * (1 - p))
    wide = _WIDE * deviation + 9
    spacing = max(1, int(deviation / _DENSE)) if spaced else 1
    low, high = max(0, math.floor(n * p - wide)), min(n, math.ceil(n * p + wide))
    return np.arange(low, high + 1.0, spacing), spacing


def _binomial(counts: FloatArray, n: int | FloatArray, p: float) -> FloatArray:
    """P(X = k) of Binomial(n, p), for each k and n; 0 where k > n."""
    most = np.broadcast_to(
        np.asarray(n, np.float64), np.broadcast_shapes(counts.shape, np.shape(n))
    )
    k = np.broadcast_to(counts, most.shape)
    there = k <= most
    inside = np.where(there, k, 0.0)
    log = log_factorials(int(most.max()))
    ways = log[most.astype(int)] - log[inside.astype(int)] - log[(most - inside).astype(int)]
    return np.where(there, np.exp(ways + _power(inside, p) + _power(most - inside, 1 - p)), 0.0)


def _power(counts: FloatArray, p: float) -> FloatArray:
    """counts * log(p), with 0 * log(0) = 0."""
    if p > 0:
        return counts * math.log(p)
    return np.where(counts > 0, -np.inf, 0.0)


def _needed(n: int, keep: float, value: float, right: FloatArray, lost: FloatArray) -> FloatArray:
    """[right, lost]: the least number of gains with which the statistic reaches the value; n + 1: none."""
    both = np.maximum(right - lost, 0.0)
    losses = np.broadcast_to(lost, both.shape)
    most = np.broadcast_to(n - right, both.shape)
    # Where losses outweigh what need not be kept, the variance is about that of gains and losses.
    short = np.maximum(keep * losses - (1 - keep) * both, 0.0)
    guess = np.ceil(short + value**2 / 2 + value * np.sqrt(2 * short + value**2 / 4))
    found = np.clip(guess, 0.0, most)

    def reaches(gains: FloatArray) -> BoolArray:
        return _statistic(gains, losses, both, keep) >= value

    while (more := ~reaches(found) & (found < most)).any():
        found = np.where(more, found + 1, found)
    while (less := (found > 0) & reaches(np.maximum(found - 1, 0.0))).any():
        found = np.where(less, found - 1, found)
    return np.where(reaches(found), found, n + 1.0)
