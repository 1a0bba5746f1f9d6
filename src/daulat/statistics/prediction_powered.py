"""A few human labels and many of a judge: estimates as honest as the labels and narrower than they alone allow.

The judge's mean over all examples, corrected by how far judge and human are apart where both spoke. However
wrong the judge is, the estimate is right on average; the better it is, the narrower the interval. A. N.
Angelopoulos, S. Bates, C. Fannjiang, M. I. Jordan, T. Zrnic, "Prediction-powered inference", Science 382
(2023); with the weight of the judge tuned: A. N. Angelopoulos, J. C. Duchi, T. Zrnic, "PPI++"
(arXiv:2311.01453). The labelled examples must be a random sample of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from daulat.statistics.intervals import constant, mean_of, negligible, within
from daulat.statistics.samples import (
    BOTH,
    UNIT,
    Bounds,
    Caveat,
    Estimate,
    Labels,
    Numbers,
    Sample,
    floats,
    level,
    sample,
)
from daulat.statistics.special import FloatArray, t_quantile

FEWEST = 20
"""With fewer human labels (or clusters of them), an estimate says so."""
_MOST = 0.9
"""So much of the weight, at most, is laid to one cluster."""
_NOTHING = 1e-24


@dataclass(frozen=True, slots=True)
class Corrected:
    """A mean by human labels and a judge.

    Attributes:
        estimate: the corrected mean; n counts the labelled examples.
        labels_only: the same from the human labels alone.
        judge_only: the judge's mean over all examples, with no correction: of the judge, not of the truth.
        weight: of the judge: 0 it is not heard, 1 fully.
        judged: examples that have only the judge's label.
        worth: human labels that would give as narrow an interval alone; None where that is not known.
    """

    estimate: Estimate
    labels_only: Estimate
    judge_only: Estimate
    weight: float
    judged: int
    worth: float | None


@dataclass(frozen=True, slots=True)
class _Parts:
    """Labelled examples (columns: human, judge) and the others (judge); codes of clusters are shared."""

    labelled: Sample
    others: Sample

    @property
    def least(self) -> int:
        """Clusters of the part that has fewer."""
        return min(_groups(self.labelled), _groups(self.others))


def corrected_mean(
    labels: Numbers,
    judge: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    bounds: Bounds = UNIT,
    tuned: bool = True,
) -> Corrected:
    """The mean of what humans would say about all examples.

    Args:
        labels: [n] by humans; NaN: no label.
        judge: [n] by the judge; NaN: it gave none, the example is left out.
        clusters: [n] examples that belong together; a cluster may have labelled and other examples.
        bounds: between what labels can lie.
        tuned: weigh the judge so that the variance is least (PPI++); False: fully (PPI).

    Raises:
        ValueError: the lengths differ.
    """
    humans, machine = floats(labels), floats(judge)
    if len(humans) != len(machine):
        raise ValueError(f"There are {len(humans)} labels and {len(machine)} of the judge.")
    alone = mean_of(sample(humans, clusters=clusters), confidence, bounds)
    naive = mean_of(sample(machine, clusters=clusters), confidence, bounds)
    parts = _parted(humans, machine, clusters)
    if parts.least < 2:
        told = alone if alone.n else replace(alone, caveat=Caveat.NO_LABELS)
        return Corrected(told, alone, naive, 0.0, parts.others.n, float(alone.n))
    weight = _weight(parts) if tuned else 1.0
    told = _corrected(parts, weight, confidence, bounds, tuned)
    return Corrected(told, alone, naive, weight, parts.others.n, _worth(alone, told))


def corrected_difference(
    labels: tuple[Numbers, Numbers],
    judge: tuple[Numbers, Numbers],
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    tuned: bool = True,
) -> Corrected:
    """Mean score of endpoint a less that of b, from scores of both by humans and by the judge.

    Args:
        labels: (a's, b's) scores by humans, [n] each; NaN in either: not labelled.
        judge: (a's, b's) scores by the judge.
    """
    a, b = (floats(one) for one in labels)
    x, y = (floats(one) for one in judge)
    return corrected_mean(
        a - b, x - y, clusters=clusters, confidence=confidence, bounds=BOTH, tuned=tuned
    )


def _parted(labels: FloatArray, judge: FloatArray, clusters: Labels | None) -> _Parts:
    judged = sample(judge, clusters=clusters)
    humans = labels[~np.isnan(judge)]
    told = ~np.isnan(humans)
    both = np.stack([humans, judged.values[:, 0]], axis=1)
    return _Parts(
        Sample(both[told], judged.codes[told], judged.clusters, 0),
        Sample(judged.values[~told], judged.codes[~told], judged.clusters, 0),
    )


def _groups(found: Sample) -> int:
    """Clusters that have an example in this part."""
    return int(np.count_nonzero(found.sizes))


def _weight(parts: _Parts) -> float:
    """The judge's weight of least variance: covariance with the labels over its own variance."""
    labelled, others = parts.labelled, parts.others
    if labelled.clusters == labelled.n + others.n:
        pooled = np.concatenate([labelled.values[:, 1], others.values[:, 0]])
        own = float(pooled.var(ddof=1)) * (1 + labelled.n / others.n)
        shared = float(np.cov(labelled.values.T, ddof=1)[0, 1])
    else:
        left, right = _influences(labelled), _influences(others)
        judge = left[:, 1] - right[:, 0]
        own, shared = float(judge @ judge), float(left[:, 0] @ judge)
    return shared / own if own > _NOTHING else 0.0


def _influences(found: Sample) -> FloatArray:
    """float64 [clusters, k]: what each cluster adds to the errors of the columns' means."""
    groups = _groups(found)
    correction = math.sqrt(groups / (groups - 1))
    return found.sums(found.values - found.values.mean(axis=0)) * (correction / found.n)


def _corrected(
    parts: _Parts, weight: float, confidence: float, bounds: Bounds, tuned: bool
) -> Estimate:
    labelled, others = parts.labelled, parts.others
    human, judge = (float(one) for one in labelled.values.mean(axis=0))
    value = human + weight * (float(others.values.mean()) - judge)
    value, groups = float(np.clip(value, *bounds)), _groups(labelled)
    left, right = _residuals(parts, weight, tuned)
    error = math.sqrt(float(((left + right) ** 2).sum()))
    if negligible(error, labelled, bounds):
        return constant(labelled, value, groups, bounds, confidence)
    freedom = _welch(left, groups - 1 - tuned, right, _groups(others) - 1)
    ends = within(value, error, t_quantile(1 - level(confidence) / 2, freedom), bounds)
    caveat = Caveat.FEW_LABELS if groups < FEWEST else Caveat.NONE
    method = "prediction-powered, tuned" if tuned else "prediction-powered"
    return Estimate(value, *ends, error, confidence, method, labelled.n, groups, caveat=caveat)


def _residuals(parts: _Parts, weight: float, tuned: bool) -> tuple[FloatArray, FloatArray]:
    """Each cluster's share of the error, [clusters], by its labelled and its other examples.

    A tuned weight is a regression's slope and fits its own data too well; dividing by what a cluster does not
    decide of it makes up for that, as leaving each out in turn would (HC3: J. G. MacKinnon, H. White, Journal
    of Econometrics 29 (1985)).
    """
    left, right = _influences(parts.labelled), _influences(parts.others)[:, 0]
    own, rest = left[:, 0] - weight * left[:, 1], weight * right
    judge = left[:, 1] - right
    total = float(judge @ judge)
    if not tuned or total <= _NOTHING:
        return own, rest
    kept = 1 - np.minimum(judge**2 / total, _MOST)
    return own / kept, rest / kept


def _welch(left: FloatArray, freedom: float, right: FloatArray, other: float) -> float:
    """Degrees of freedom of a sum of two variances (B. L. Welch, Biometrika 34 (1947))."""
    own, rest = float(left @ left), float(right @ right)
    return (own + rest) ** 2 / (own**2 / max(1.0, freedom) + rest**2 / max(1.0, other))


def _worth(alone: Estimate, told: Estimate) -> float | None:
    if not alone.error or not told.error:
        return None
    return alone.n * (alone.error / told.error) ** 2
