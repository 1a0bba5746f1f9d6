"""Models as they are stored and applied: plain numbers, and a few lines of numpy that apply them.

Each gives, for every endpoint, the score that its answer is expected to get. They are fitted in `models`; the
tests hold what is applied here equal to what scikit-learn predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from daulat.route.learning.features import Features
from daulat.route.learning.mapping import FeatureMap
from daulat.route.learning.outcomes import FloatArray

_AT_ONCE: Final = 1 << 22


class Part(Protocol):
    """One fitted model."""

    @property
    def name(self) -> str: ...

    def predict(self, features: Features) -> FloatArray:
        """float64 [n, k]: the score that each endpoint's answer is expected to get."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """The mean score of each category, drawn towards that of all.

    Attributes:
        categories: c names; means: float64 [c, k]; rest: float64 [k], for a category that was not seen.
    """

    categories: tuple[str, ...]
    means: FloatArray
    rest: FloatArray

    name = "prior"

    def predict(self, features: Features) -> FloatArray:
        place = {name: i for i, name in enumerate(self.categories)}
        table = np.vstack([self.means, self.rest])
        return table[[place.get(name, -1) for name in features.categories]]


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A weighted sum of mapped features; for `logistic` the sum is a log-odds.

    Attributes:
        weights: float64 [size of the map, k]; intercept: float64 [k].
    """

    map: FeatureMap
    weights: FloatArray
    intercept: FloatArray
    logistic: bool

    @property
    def name(self) -> str:
        return "logistic" if self.logistic else "ridge"

    def predict(self, features: Features) -> FloatArray:
        total = self.map.product(features, self.weights) + self.intercept
        return 1 / (1 + np.exp(-np.clip(total, -30, 30))) if self.logistic else total


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The mean score of the nearest examples that were seen, drawn towards that of all.

    Attributes:
        places: float32 [m, d]: where the examples are (`placed`); scores: float64 [m, k].
        count: how many neighbours; strength: so many examples' worth of the mean of all is added.
    """

    map: FeatureMap
    places: NDArray[np.float32]
    scores: FloatArray
    count: int
    strength: float

    name = "neighbours"

    def predict(self, features: Features) -> FloatArray:
        found = placed(self.map, features)
        step = max(1, _AT_ONCE // max(1, len(self.places)))
        parts = [self._near(found[i : i + step]) for i in range(0, len(found), step)]
        return np.concatenate(parts) if parts else np.zeros((0, self.scores.shape[1]))

    def _near(self, found: NDArray[np.float32]) -> FloatArray:
        # The found example's own length is the same for all neighbours and left out.
        distance = (self.places**2).sum(axis=1) - 2 * found @ self.places.T
        count = min(self.count, len(self.places))
        nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
        total = self.scores[nearest].sum(axis=1) + self.strength * self.scores.mean(axis=0)
        return total / (count + self.strength)


def placed(map_: FeatureMap, features: Features) -> NDArray[np.float32]:
    """float32 [n, d]: where examples are: figures, vectors and probes, each block of the same weight."""
    figures = map_.standard(features) / max(1, len(map_.columns)) ** 0.5
    blocks = [figures, features.vectors, map_.probes(features)]
    return np.concatenate(blocks, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Boosted regression trees over figures and the prior's means, for one endpoint after the other.

    Attributes:
        prior: whose means are features beside the figures, [figures..., means...].
        starts: int64 [trees + 1]: the nodes of tree i are those from `starts[i]` to `starts[i + 1]`.
        endpoint: int64 [trees]: whose score the tree adds to.
        feature: int64 [nodes], -1 at a leaf; threshold: float64 [nodes]: at most this goes left.
        left, right: int64 [nodes], numbers of nodes; value: float64 [nodes].
        baseline: float64 [k].
    """

    prior: Prior
    starts: NDArray[np.int64]
    endpoint: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: FloatArray
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: FloatArray
    baseline: FloatArray

    name = "trees"

    def predict(self, features: Features) -> FloatArray:
        table = tabled(self.prior, features)
        out = np.tile(self.baseline, (len(features), 1))
        step = max(1, _AT_ONCE // max(1, len(self.endpoint)))
        for first in range(0, len(features), step):
            leaves = self._leaves(table[first : first + step])
            for column in range(len(self.baseline)):
                mine = self.endpoint == column
                out[first : first + step, column] += self.value[leaves[:, mine]].sum(axis=1)
        return out

    def _leaves(self, table: FloatArray) -> NDArray[np.int64]:
        """int64 [n, trees]: the leaf that each example comes to, all trees at once."""
        at = np.tile(self.starts[:-1], (len(table), 1))
        rows = np.arange(len(table))[:, None]
        while True:
            feature = self.feature[at]
            inner = feature >= 0
            if not inner.any():
                return at
            goes_left = table[rows, feature] <= self.threshold[at]
            at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)


def tabled(prior: Prior, features: Features) -> FloatArray:
    """float64 [n, f + k]: what trees see: the figures as they are, and what the prior expects."""
    return np.concatenate([features.figures, prior.predict(features)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """The mean of several parts."""

    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        return " + ".join(part.name for part in self.parts)

    def predict(self, features: Features) -> FloatArray:
        return sum_of([part.predict(features) for part in self.parts]) / len(self.parts)


def sum_of(arrays: Sequence[FloatArray]) -> FloatArray:
    """Their sum; there is at least one."""
    return np.sum(np.stack(arrays), axis=0)
