"""Standard errors of means whose examples come in clusters (several questions on one document, turns of one
session).

Examples of a cluster resemble each other, so n of them carry less than n independent ones. Clusters are taken
to be independent of each other; within them anything goes. With each example a cluster of its own, all of
this is the textbook's: s / sqrt(n) with n - 1 degrees of freedom.

CR2 is the default: R. M. Bell, D. F. McCaffrey, "Bias reduction in standard errors for linear regression with
multi-stage samples", Survey Methodology 28 (2002), for a regression on a constant alone, where it has a
closed form (docs/statistics.md). CR1 is the usual one: K.-Y. Liang, S. L. Zeger, Biometrika 73 (1986), times
G / (G - 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from daulat.statistics.samples import Sample
from daulat.statistics.special import FloatArray

Correction = Literal["CR1", "CR2"]


@dataclass(frozen=True, slots=True)
class Spread:
    """How uncertain means are.

    Attributes:
        covariance: float64 [k, k] of the k means.
        freedom: degrees of freedom of Student's t, 1 to clusters - 1.
        balance: clusters of equal size that would weigh the same, 1 to clusters (L. Kish).
    """

    covariance: FloatArray
    freedom: float
    balance: float

    @property
    def error(self) -> float:
        """The standard error of the first mean."""
        return float(np.sqrt(self.covariance[0, 0]))


def spread(found: Sample, correction: Correction = "CR2") -> Spread:
    """Covariance of the columns' means over examples.

    Args:
        found: two clusters at least.
        correction: CR1 with G - 1 degrees of freedom, or CR2 with Satterthwaite's.
    """
    residuals = found.values - found.values.mean(axis=0)
    sums, sizes = found.sums(residuals), found.sizes
    shares = sizes / found.n
    if correction == "CR1":
        weights = np.full(found.clusters, found.clusters / (found.clusters - 1))
        freedom = float(found.clusters - 1)
    else:
        weights = 1 / (1 - shares)
        freedom = min(_freedom_apart(shares, weights), _freedom_together(shares, weights))
    covariance = (sums * weights[:, None]).T @ sums / found.n**2
    return Spread(covariance, max(1.0, freedom), float(1 / (shares**2).sum()))


def _freedom_apart(shares: FloatArray, weights: FloatArray) -> float:
    """Satterthwaite's degrees of freedom if examples of a cluster were independent.

    The estimate of the variance is a quadratic form with matrix B; its degrees of freedom are tr(B)^2 /
    tr(B^2).
    """
    mixed = weights * shares**2
    squares = (shares**2).sum() + mixed.sum() ** 2 - (mixed**2).sum()
    return float(1 / squares)


def _freedom_together(shares: FloatArray, weights: FloatArray) -> float:
    """The same if examples of a cluster were copies of one another: large clusters then count for more."""
    rooted = np.sqrt(weights) * shares
    tilted = rooted * shares
    overlap = float((shares**2).sum())
    aa, ab, bb = rooted @ rooted, rooted @ tilted, tilted @ tilted
    trace = aa - 2 * ab + overlap * aa
    own = (rooted**4).sum() + 2 * ((rooted**4) @ (overlap - 2 * shares))
    rest = 2 * ab**2 + 2 * aa * bb - 4 * overlap * aa * ab + overlap**2 * aa**2
    return float(trace**2 / (own + rest))
