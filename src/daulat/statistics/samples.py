"""What the figures are made of and what they come back as: checked arrays, clusters, estimates.

An estimate never holds NaN. Where the data say nothing its value is None, its interval is the whole range
that the figure can take, and `caveat` says why. An infinite end of an interval means that the data do not
bound it there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from daulat.statistics.special import FloatArray

IntArray = NDArray[np.int64]
Numbers = Sequence[float] | Sequence[int] | Sequence[bool] | NDArray[np.generic]
Labels = Sequence[str] | Sequence[int] | NDArray[np.generic]
Bounds = tuple[float, float]

UNIT: Bounds = (0.0, 1.0)
"""The range of a score."""
BOTH: Bounds = (-1.0, 1.0)
"""The range of a difference of two scores."""
POSITIVE: Bounds = (0.0, math.inf)
"""The range of a cost, a time, a ratio of such."""


class Caveat(StrEnum):
    """Why a figure says less than figures of its kind usually do; empty: nothing to say."""

    NONE = ""
    EMPTY = "no examples"
    SINGLE = "one example"
    ONE_CLUSTER = "all examples are of one cluster"
    CONSTANT = "all values are equal"
    FEW_CLUSTERS = "few clusters, or a few that outweigh the others"
    FEW_DIFFER = "few examples differ"
    NOTHING_GOOD = "the denominator is zero"
    UNBOUNDED = "too few examples to bound it"
    NO_LABELS = "no human labels"
    FEW_LABELS = "few human labels"
    SEPARATED = "some never lose to some others"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure; None where the data say nothing.
        low, high: the interval's ends; infinite where the data do not bound the figure.
        error: the standard error; None where there is none.
        confidence: the interval's nominal level, in (0, 1).
        method: how the interval was made.
        n: examples that were used.
        clusters: independent groups among them.
        missing: examples that were left out because a value was missing.
        caveat: why it says less than usual.
    """

    value: float | None
    low: float
    high: float
    error: float | None
    confidence: float
    method: str
    n: int
    clusters: int
    missing: int = 0
    caveat: Caveat = Caveat.NONE

    def __contains__(self, truth: float) -> bool:
        """Whether the interval covers a value."""
        return self.low <= truth <= self.high

    def mirrored(self) -> Estimate:
        """The same of the negated figure."""
        value = None if self.value is None else 0.0 - self.value
        return replace(self, value=value, low=0.0 - self.high, high=0.0 - self.low)


@dataclass(frozen=True, slots=True)
class Sample:
    """Examples without missing values.

    Attributes:
        values: float64 [n, k]: k columns of the same n examples.
        codes: int64 [n]: the cluster of each example, 0 to clusters - 1.
        clusters: how many there are.
        missing: rows that were left out.
    """

    values: FloatArray
    codes: IntArray
    clusters: int
    missing: int

    @property
    def n(self) -> int:
        """How many examples there are."""
        return self.values.shape[0]

    @property
    def sizes(self) -> FloatArray:
        """float64 [clusters]: examples of each."""
        return np.bincount(self.codes, minlength=self.clusters).astype(np.float64)

    def sums(self, columns: FloatArray | None = None) -> FloatArray:
        """float64 [clusters, k]: the columns (as a default `values`) added up within clusters."""
        wanted = self.values if columns is None else columns
        each = [added(self.codes, column, self.clusters) for column in wanted.T]
        return np.stack(each, axis=1)

    def of(self, columns: FloatArray) -> Sample:
        """The same examples with other values, float64 [n, k] or [n]."""
        return replace(self, values=columns if columns.ndim == 2 else columns[:, None])


def sample(
    *columns: Numbers, clusters: Labels | None = None, missing: float | None = None
) -> Sample:
    """Columns of the same examples, with what is missing left out or counted.

    Args:
        columns: [n] each; NaN: missing.
        clusters: [n] which examples belong together; None: each stands alone.
        missing: what a missing value counts as; None: an example with a missing value is left out.

    Raises:
        ValueError: the lengths differ, or a value is infinite.
    """
    values = np.stack([floats(column) for column in columns], axis=1)
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"There are {len(values)} examples and {len(clusters)} clusters.")
    if missing is not None:
        values = np.where(np.isnan(values), missing, values)
    kept = np.asarray(~np.isnan(values).any(axis=1))
    codes, count = _codes(clusters, kept)
    return Sample(values[kept], codes, count, int(len(kept) - kept.sum()))


def check(found: Sample, bounds: Bounds) -> None:
    """The values lie where they can.

    Raises:
        ValueError: one of the first column does not.
    """
    column = found.values[:, 0]
    if column.size and not bounds[0] <= column.min() <= column.max() <= bounds[1]:
        raise ValueError(
            f"A value lies outside of {bounds[0]:g} to {bounds[1]:g}: it ranges from "
            f"{column.min():g} to {column.max():g}."
        )


def added(codes: IntArray, values: FloatArray, count: int) -> FloatArray:
    """float64 [count]: values added up by code."""
    return np.bincount(codes, values, count).astype(np.float64)


def floats(values: Numbers) -> FloatArray:
    """float64 [n], NaN: missing.

    Raises:
        ValueError: not one row of numbers, or one is infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"One row of numbers is wanted, not {array.ndim} dimensions.")
    if np.isinf(array).any():
        raise ValueError("A value is infinite; give NaN for what is missing.")
    return array


def _codes(labels: Labels | None, kept: NDArray[np.bool_]) -> tuple[IntArray, int]:
    if labels is None:
        count = int(kept.sum())
        return np.arange(count, dtype=np.int64), count
    names, codes = np.unique(np.asarray(labels)[kept], return_inverse=True)
    return codes.reshape(-1).astype(np.int64), len(names)


def level(confidence: float) -> float:
    """The probability that is left out, 1 - confidence.

    Raises:
        ValueError: the confidence is not strictly between 0 and 1.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"A confidence lies between 0 and 1, and {confidence} does not.")
    return 1.0 - confidence


def clipped(low: float, high: float, bounds: Bounds) -> Bounds:
    """An interval cut to the range that the figure can take."""
    return max(low, bounds[0]), min(high, bounds[1])


def unknown(
    found: Sample, bounds: Bounds, confidence: float, method: str, caveat: Caveat
) -> Estimate:
    """What is said where the data say nothing: no value, the whole range."""
    return Estimate(
        None, *bounds, None, confidence, method, found.n, found.clusters, found.missing, caveat
    )
