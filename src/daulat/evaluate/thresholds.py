"""Which thresholds of a router are shown to keep a share of the closed quality: Learn then Test.

A router gives every request a gain: how much better the closed endpoint would answer it. The closed endpoint
is asked where the gain reaches the threshold. From few, to many, to all requests that stay open, each
threshold's hypothesis, that it keeps too little, is tested in turn, until the first that is not rejected
(`statistics.testing.fixed_sequence`); all that were rejected before hold together. The thresholds, their order,
the test and its stakes come from the training examples alone, the verdicts from the calibration examples alone.

The test is exact where answers are right or wrong (`statistics.keeping`). Graded scores are made right or wrong
by a coin that keeps their mean, where that costs less power than a bet on the scores themselves
(`statistics.bounds.fixed_bets_p`); examples that belong together are bet on together. Not here: how a router is
fitted, what a certificate is.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from daulat.statistics.bounds import fixed_bets_p
from daulat.statistics.keeping import Counts, keeps, kept_at_least, statistic
from daulat.statistics.samples import IntArray
from daulat.statistics.special import FloatArray, normal_quantile
from daulat.statistics.testing import fixed_sequence

BoolArray = NDArray[np.bool_]

ALL_CLOSED: Final = -sys.float_info.max
"""The threshold that every gain reaches."""
ALL_OPEN: Final = sys.float_info.max
"""The threshold that none does."""
STEPS: Final = 256
"""Thresholds that are tested, besides the router's own stops."""
FIRST: Final = 0.95
"""The share of other examples that the first tested threshold sends to the closed endpoint."""
_BOLDEST: Final = 0.9
"""The most that a bet stakes."""
_WORSE: Final = 1.4
"""How many times the deviation may grow before an exact test of coins is weaker than a bet on scores."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """What two endpoints' answers to n examples were worth, and the gains that a router gave to them.

    Attributes:
        gains: float64 [n], finite.
        open, closed: float64 [n], in [0, 1].
        groups: int64 [n]: examples of one group belong together; None: each stands alone.
        largest: how many examples a group may have.
    """

    gains: FloatArray
    open: FloatArray
    closed: FloatArray
    groups: IntArray | None = None
    largest: int = 1

    def __post_init__(self) -> None:
        shapes = {one.shape for one in (self.gains, self.open, self.closed)}
        if shapes != {(len(self.gains),)}:
            raise ValueError("Gains and scores are of the same examples, one row each.")
        if not np.isfinite(self.gains).all():
            raise ValueError("Gains are finite.")
        for scores in (self.open, self.closed):
            if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
                raise ValueError("Scores lie in [0, 1].")

    def __len__(self) -> int:
        return len(self.gains)

    @property
    def units(self) -> int:
        """Independent groups."""
        return len(self) if self.groups is None else len(np.unique(self.groups))

    def routed(self, threshold: float) -> FloatArray:
        """float64 [n]: the scores of the answers that the router chooses."""
        return np.where(self.gains >= threshold, self.closed, self.open)

    def closed_share(self, threshold: float) -> float:
        """How many go to the closed endpoint."""
        return float((self.gains >= threshold).mean()) if len(self) else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What was tested and what was shown.

    Attributes:
        threshold: the cheapest that is shown to keep `keep`; `ALL_CLOSED` where none of them is.
        tested: float64 [m], the thresholds in the order of their tests.
        shown: how many of them, the first ones, are shown to keep `keep`.
        method: how.
        instead: where none is shown: what share the first of them is shown to keep, with the same confidence.
    """

    threshold: float
    tested: FloatArray
    shown: int
    method: str
    instead: float | None


class Test(Protocol):
    """Whether thresholds are shown to keep a share."""

    method: str

    def passes(self, thresholds: FloatArray, keep: float, alpha: float) -> BoolArray:
        """bool [m]: each at its own level alpha."""
        ...

    def at_least(self, threshold: float, alpha: float) -> float:
        """What share is shown to be kept; 0: none."""
        ...

    def strength(self, thresholds: FloatArray, keep: float) -> FloatArray:
        """float64 [m]: about how many standard deviations speak for it; grows with the root of the examples."""
        ...

    def limit(self, keep: float, alpha: float) -> float:
        """About how many are needed."""
        ...


def certify(
    train: Pairs,
    calibrate: Pairs,
    tested: FloatArray,
    keep: float,
    confidence: float,
    seed: int = 0,
) -> Verdict:
    """The cheapest threshold that is shown to keep a share of the closed quality.

    Over repeated calibration examples, it keeps less with a probability of 1 - confidence at most, whatever the
    router, the scores and the training examples are. With a higher `keep` or `confidence`, never more
    requests stay open.

    Args:
        train: what the router was fitted on.
        calibrate: examples that it has not seen.
        tested: float64 [m], thresholds in the order of their tests, found without the calibration examples.
        keep: in (0, 1].
        seed: of the coins.

    Raises:
        ValueError: keep or confidence is out of bounds, or there is nothing to calibrate on.
    """
    if not 0 < keep <= 1 or not 0.5 <= confidence < 1:
        raise ValueError("A share to keep lies in (0, 1], a confidence in [0.5, 1).")
    if not len(train) or not len(calibrate) or not len(tested):
        raise ValueError(
            "Training and calibration need examples, and there is a threshold to test."
        )
    alpha = 1 - confidence
    test = chosen_test(train, calibrate, seed)
    # A test that decides at its level has two p-values that matter.
    p_values = np.where(test.passes(tested, keep, alpha), 0.0, 1.0)
    shown = int(fixed_sequence(p_values, alpha).sum())
    if shown:
        return Verdict(float(tested[shown - 1]), tested, shown, test.method, None)
    instead = test.at_least(float(tested[0]), alpha)
    return Verdict(ALL_CLOSED, tested, 0, test.method, instead)


def thresholds(stops: FloatArray, gains: FloatArray) -> FloatArray:
    """float64 [m]: rising, so that more and more stays open; the last is `ALL_OPEN`.

    Args:
        stops: of the router: where gains of examples that it has not seen may lie, as it thinks.
        gains: of examples that are not tested on, at least one; the first threshold has a few of them below it.
    """
    shares = np.linspace(1 - FIRST, 1, STEPS, endpoint=False)
    found = np.quantile(gains, shares)
    every = np.concatenate([found, stops[stops > found[0]], [ALL_OPEN]])
    return np.unique(every).astype(np.float64)


def chosen_test(train: Pairs, calibrate: Pairs, seed: int) -> Test:
    """The stronger test, as the training examples have it."""
    if calibrate.groups is not None:
        return Bets(train, calibrate)
    apart = np.abs(train.open - train.closed)
    squares = float((apart**2).mean())
    tossed = math.sqrt(float(apart.mean()) / squares) if squares > 0 else 1.0
    return Exact(calibrate, seed) if tossed <= _WORSE else Bets(train, calibrate)


class Exact:
    """The exact test of right and wrong answers; graded scores become such by a toss that both share."""

    method = "exact score test"

    def __init__(self, calibrate: Pairs, seed: int) -> None:
        toss = np.random.default_rng(seed).random(len(calibrate))
        # A score of 1 is above every toss, a score of 0 above none.
        right, closed = calibrate.open > toss, calibrate.closed > toss
        order = np.argsort(calibrate.gains, kind="stable")
        self._gains = calibrate.gains[order]
        self._gained = _running(right & ~closed, order)
        self._lost = _running(~right & closed, order)
        self._closed = int(closed.sum())

    def counts(self, thresholds: FloatArray) -> Counts:
        """What becomes of the calibration examples at each threshold."""
        below = np.searchsorted(self._gains, thresholds, side="left")
        lost = self._lost[below]
        return Counts(len(self._gains), self._gained[below], lost, self._closed - lost)

    def passes(self, thresholds: FloatArray, keep: float, alpha: float) -> BoolArray:
        """See `Test`."""
        return keeps(self.counts(thresholds), keep, alpha)

    def at_least(self, threshold: float, alpha: float) -> float:
        """See `Test`."""
        return kept_at_least(self.counts(np.array([threshold])), alpha)

    def strength(self, thresholds: FloatArray, keep: float) -> FloatArray:
        """See `Test`."""
        return statistic(self.counts(thresholds), keep)

    def limit(self, keep: float, alpha: float) -> float:
        """See `Test`."""
        return normal_quantile(1 - alpha)


class Bets:
    """Bets on the scores themselves, added up within groups, at stakes that the training examples set."""

    method = "fixed bets"

    def __init__(self, train: Pairs, calibrate: Pairs) -> None:
        self._train, self._calibrate = train, calibrate

    def passes(self, thresholds: FloatArray, keep: float, alpha: float) -> BoolArray:
        """See `Test`."""
        # Not all at once: a matrix of every threshold and example can be large.
        return np.array([self._p(float(one), keep, alpha) <= alpha for one in thresholds])

    def at_least(self, threshold: float, alpha: float) -> float:
        """See `Test`."""
        shares = np.arange(1, 1001) / 1000
        shown = [self._p(threshold, float(one), alpha) <= alpha for one in shares]
        return (
            float(shares[np.argmin(shown) - 1])
            if shown[0] and not all(shown)
            else float(all(shown))
        )

    def strength(self, thresholds: FloatArray, keep: float) -> FloatArray:
        """See `Test`."""
        values = [_added(self._calibrate, float(one), keep) for one in thresholds]
        errors = [np.sqrt((one**2).mean() / len(one)) or np.inf for one in values]
        means = [one.mean() for one in values]
        return np.maximum(0.0, np.array(means, np.float64) / np.array(errors, np.float64))

    def limit(self, keep: float, alpha: float) -> float:
        """See `Test`."""
        return math.sqrt(2 * math.log(1 / alpha))

    def _p(self, threshold: float, keep: float, alpha: float) -> float:
        values = _added(self._calibrate, threshold, keep)
        # The stake must not depend on what is to be kept, or a higher share might be easier to show.
        before = _added(self._train, threshold, 1.0)
        variance = (float((before**2).sum()) + 1 / len(before)) / (len(before) + 1)
        stake = math.sqrt(2 * math.log(1 / alpha) / (len(values) * variance))
        return float(fixed_bets_p(values[:, None], np.array([min(_BOLDEST, stake)]))[0])


def _running(which: BoolArray, order: IntArray) -> IntArray:
    """[n + 1]: how many there are among the first so many."""
    return np.concatenate([[0], np.cumsum(which[order])]).astype(np.int64)


def _added(pairs: Pairs, threshold: float, keep: float) -> FloatArray:
    """[groups]: the sums of score - keep * closed within groups, over the largest that a group can have."""
    values = pairs.routed(threshold) - keep * pairs.closed
    if pairs.groups is None:
        return values
    _, codes = np.unique(pairs.groups, return_inverse=True)
    return np.bincount(codes, values).astype(np.float64) / pairs.largest
