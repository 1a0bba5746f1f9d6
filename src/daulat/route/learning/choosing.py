"""From expected scores to a choice: scores are weighed against prices, and the dial says what money is worth.

An endpoint's utility is its expected score less `worth` times its price. Lowering `worth` moves every example
to an endpoint of the same price or a dearer one, never to a cheaper one, since utilities are straight lines
in it: so the dial is monotone for any number of endpoints. With two endpoints this is a threshold on the
expected gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daulat.route.learning.features import Mode
from daulat.route.learning.outcomes import FloatArray, Outcomes


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """For every example, the endpoints that are ever chosen as `worth` falls, with where each begins.

    Attributes:
        places: int64 [n, k]: endpoints, from the cheapest on; the last ones may be repeated.
        worths: float64 [n, k - 1], falling in a row: below `worths[i, j]`, `places[i, j + 1]` is chosen.
    """

    places: NDArray[np.int64]
    worths: FloatArray

    def needs(self) -> FloatArray:
        """float64 [n]: with `worth` below it, the cheapest endpoint is left."""
        return self.worths[:, 0]

    def choose(self, worth: float) -> NDArray[np.int64]:
        """int64 [n]: the endpoint with the largest utility; of equals the cheapest.

        Args:
            worth: score that a unit of price is worth; infinite: always the cheapest, minus infinite: the
                dearest.
        """
        if worth == -np.inf:
            return np.full(len(self.places), self.worths.shape[1])
        passed = (self.worths > worth).sum(axis=1)
        return self.places[np.arange(len(self.places)), passed]


def steps(expected: FloatArray, prices: FloatArray) -> Steps:
    """The upper envelope of each example's utilities.

    Args:
        expected: float64 [n, k], endpoints from cheap to dear.
        prices: float64 [k], strictly rising.
    """
    n, k = expected.shape
    places, worths = np.zeros((n, k), np.int64), np.full((n, k - 1), -np.inf)
    at, last, rows = np.zeros(n, np.int64), np.full(n, np.inf), np.arange(n, dtype=np.int64)
    columns = np.arange(k, dtype=np.int64)
    for step in range(k - 1):
        above = columns > at[:, None]
        rise = expected - expected[rows, at][:, None]
        ratio = np.full((n, k), -np.inf)
        np.divide(rise, prices - prices[at][:, None], out=ratio, where=above)
        # Ratios fall along an envelope; the minimum keeps rounding from saying otherwise.
        at, last = (
            np.where(above.any(axis=1), ratio.argmax(axis=1), at),
            np.minimum(last, ratio.max(axis=1)),
        )
        places[:, step + 1], worths[:, step] = at, last
    return Steps(places, worths)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a set of choices delivers: means over examples. NaN: not known.

    Attributes:
        share: of examples that are not left to the cheapest endpoint.
        quality: the mean score; cost: money an example; seconds: an example.
    """

    share: float
    quality: float
    cost: float
    seconds: float


def spent(outcomes: Outcomes, chosen: NDArray[np.int64], mode: Mode) -> Spent:
    """What these choices of columns deliver on a table; the first column is the cheapest endpoint.

    In a cascade the first endpoint always answers, and what that costs in money and time counts, kept or not.
    """
    rows = np.arange(len(chosen))
    cost, seconds = outcomes.costs[rows, chosen], outcomes.seconds[rows, chosen]
    if mode == "cascade":
        away = chosen > 0
        cost = cost + np.where(away, outcomes.costs[:, 0], 0.0)
        seconds = seconds + np.where(away, outcomes.seconds[:, 0], 0.0)
    quality = outcomes.scores[rows, chosen]
    return Spent(*(float(one.mean()) for one in (chosen > 0, quality, cost, seconds)))
