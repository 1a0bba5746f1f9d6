"""From features to the numbers that a linear model weighs: five blocks, each of unit size an example.

- the category, as one number each;
- every figure as nine overlapping bumps, so that a sum of weights is a smooth curve in that figure: the map
  of an additive Gaussian kernel (C. K. I. Williams, C. E. Rasmussen, "Gaussian Processes for Machine Learning",
  2006);
- the words, as tf-idf (G. Salton, C. Buckley, "Term-weighting approaches in automatic text retrieval", 1988);
- the vectors;
- the figures of hidden states, each with mean 0 and spread 1; an example without them is as the mean.

A ridge regression over blocks of equal size shrinks what each of them says alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daulat.errors import DataError
from daulat.route.learning.features import Features
from daulat.route.learning.outcomes import FloatArray

_STEP: Final = 0.75
CENTRES: Final = np.arange(-3.0, 3.01, _STEP)
_UNIT: Final = _STEP / (np.pi / 2) ** 0.5
"""The sum over all centres of exp(-2 (z - c)^2) is 1 / _UNIT, whatever z is."""
_MAX_TERMS: Final = 30_000
_LEAST_SPREAD: Final = 1e-6


Plain = dict[str, Any]
"""What JSON can hold."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """A map that was fitted: which categories, figures and terms there were, and how they are scaled.

    Attributes:
        categories: names that have a number of their own.
        columns: int64 [f] of the figures that vary; means, spreads: float64 [f] of these.
        terms: int64 [t], ascending; idf: float64 [t].
        width: how many numbers a vector has.
        probe_means, probe_spreads: float64 [p] of the figures of hidden states; none where they do not count.
    """

    categories: tuple[str, ...]
    columns: NDArray[np.int64]
    means: FloatArray
    spreads: FloatArray
    terms: NDArray[np.int64]
    idf: FloatArray
    width: int
    probe_means: FloatArray
    probe_spreads: FloatArray

    @property
    def size(self) -> int:
        """How many numbers an example becomes."""
        return int(self._ends()[-1])

    def _ends(self) -> NDArray[np.int64]:
        """Where each block ends."""
        bumps = len(self.columns) * len(CENTRES)
        blocks = [len(self.categories), bumps, len(self.terms), self.width, len(self.probe_means)]
        return np.cumsum(blocks)

    def standard(self, features: Features) -> FloatArray:
        """float64 [n, f]: the figures that vary, with mean 0 and spread 1, cut at 3."""
        return _standard(features.figures[:, self.columns], self.means, self.spreads)

    def probes(self, features: Features) -> FloatArray:
        """float64 [n, p]: likewise, of unit size.

        Raises:
            DataError: they are not as many as the map was fitted on.
        """
        length, given = len(self.probe_means), features.probes.shape[1]
        if not length or not given:
            return np.zeros((len(features), length))
        if given != length:
            raise DataError(
                f"This router was fitted on probes of {length} numbers, and these have {given}: they are of "
                "another model, or of another version. Fit it again."
            )
        found = _standard(features.probes, self.probe_means, self.probe_spreads)
        return np.nan_to_num(found) / length**0.5

    def bumps(self, features: Features) -> FloatArray:
        """float64 [n, f * centres]."""
        z = self.standard(features)
        high = np.exp(-((z[:, :, None] - CENTRES) ** 2))
        scale = (_UNIT / max(1, len(self.columns))) ** 0.5
        return (high * scale).reshape(len(z), -1)

    def words(self, features: Features) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
        """The terms that are known, as (row, place among `terms`, tf-idf of unit length a row)."""
        rows = np.repeat(np.arange(len(features)), np.diff(features.starts))
        places = np.searchsorted(self.terms, features.terms)
        known = places < len(self.terms)
        known[known] = self.terms[places[known]] == features.terms[known]
        rows, places = rows[known], places[known]
        values = features.counts[known] * self.idf[places]
        length = np.sqrt(np.bincount(rows, values**2, len(features)))
        return rows, places, values / length[rows]

    def codes(self, features: Features) -> NDArray[np.int64]:
        """int64 [n]: the number of each category, -1 where it was not seen."""
        place = {name: i for i, name in enumerate(self.categories)}
        return np.array([place.get(name, -1) for name in features.categories], np.int64)

    def matrix(self, features: Features) -> Any:
        """All blocks side by side, a `csr_array` of scipy, [n, size]."""
        csr_array, n = sparse().csr_array, len(features)
        codes = self.codes(features)
        known = np.flatnonzero(codes >= 0)
        one = csr_array(
            (np.ones(len(known)), (known, codes[known])), shape=(n, len(self.categories))
        )
        rows, places, values = self.words(features)
        words = csr_array((values, (rows, places)), shape=(n, len(self.terms)))
        bumps, vectors, probes = map(
            csr_array, (self.bumps(features), features.vectors, self.probes(features))
        )
        return csr_array(sparse().hstack([one, bumps, words, vectors, probes], format="csr"))

    def product(self, features: Features, weights: FloatArray) -> FloatArray:
        """float64 [n, k]: `matrix(features) @ weights`, with numpy alone; `weights` is [size, k]."""
        of_category, of_bumps, of_words, of_vectors, of_probes = np.split(
            weights, self._ends()[:-1]
        )
        total = self.bumps(features) @ of_bumps
        codes = self.codes(features)
        total[codes >= 0] += of_category[codes[codes >= 0]]
        rows, places, values = self.words(features)
        for column in range(weights.shape[1]):
            part = values * of_words[places, column]
            total[:, column] += np.bincount(rows, part, len(features))
        return total + features.vectors @ of_vectors + self.probes(features) @ of_probes


def _standard(values: FloatArray, means: FloatArray, spreads: FloatArray) -> FloatArray:
    return np.clip((values - means) / spreads, -3.0, 3.0)


def sparse() -> Any:
    """scipy.sparse, imported when something is fitted; its types are not known to checkers."""
    return import_module("scipy.sparse")


def fit_map(features: Features, *, words: bool = True) -> FeatureMap:
    """The map for these examples.

    Args:
        words: whether words count.
    """
    spreads = features.figures.std(axis=0)
    columns = np.flatnonzero(spreads > _LEAST_SPREAD)
    terms, found = np.unique(features.terms, return_counts=True)
    often = np.flatnonzero(found >= 2) if words else np.zeros(0, np.int64)
    most = np.sort(often[np.argsort(-found[often], kind="stable")][:_MAX_TERMS])
    idf = np.log((1 + len(features)) / (1 + found[most])) + 1
    return FeatureMap(
        tuple(sorted(set(features.categories) - {""})),
        columns,
        features.figures.mean(axis=0)[columns],
        spreads[columns],
        terms[most],
        idf,
        features.vectors.shape[1],
        features.probes.mean(axis=0),
        _spreads(features.probes),
    )


def _spreads(values: FloatArray) -> FloatArray:
    """Of each column; 1 where it does not vary, and says nothing."""
    found = values.std(axis=0)
    return np.where(found > _LEAST_SPREAD, found, 1.0)
