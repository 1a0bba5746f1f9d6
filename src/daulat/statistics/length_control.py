"""A win rate as if both answers were equally long: judges tend to prefer the longer one.

A logistic regression of the preference on the difference of lengths, tanh((own - other) / s) with s its
standard deviation, and, where it is given, on how hard each example is; the rate is the mean prediction with
the difference set to zero. Y. Dubois, B. Galambosi, P. Liang, T. B. Hashimoto, "Length-controlled AlpacaEval"
(arXiv:2404.04475). AlpacaEval's own figure needs two things more that are data, not method: docs/statistics.md.
"""

from __future__ import annotations

import numpy as np

from daulat.statistics.clusters import spread
from daulat.statistics.intervals import few, negligible, score_of, too_little, within
from daulat.statistics.samples import UNIT, Caveat, Estimate, Labels, Numbers, Sample, level, sample
from daulat.statistics.special import FloatArray, t_quantile

RIDGE = 1e-3
"""Keeps the fit finite where lengths and winners separate; of no weight otherwise."""
_STEPS = 200
_SMALL = 1e-10


def length_controlled(
    preferences: Numbers,
    lengths: Numbers,
    other_lengths: Numbers,
    *,
    difficulty: Numbers | None = None,
    clusters: Labels | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Win rate with the lengths' difference taken out.

    It is a figure of the model: what a longer answer is worth is taken to be the same on every example, and
    what makes an answer both longer and better is taken out with the length.

    Args:
        preferences: [n] in [0, 1] for the endpoint; NaN: no verdict, left out.
        lengths, other_lengths: [n] characters of its answers and of the other endpoint's.
        difficulty: [n] how hard each example is, on any scale; None: not known.
        clusters: [n] examples that belong together; None: each stands alone.

    Raises:
        ValueError: a preference lies outside of [0, 1], or the lengths differ.
    """
    columns = [preferences, lengths, other_lengths]
    if difficulty is not None:
        columns.append(difficulty)
    found = sample(*columns, clusters=clusters)
    raw = score_of(found, confidence)
    if too_little(found) is not None or raw.caveat is Caveat.CONSTANT or raw.error == 0:
        return raw
    own, neutral = _designs(found)
    weights, bend = _fitted(own, found.values[:, 0])
    told, influences = _influences(found.values[:, 0], own, neutral, weights, bend)
    width = spread(found.of(influences))
    if negligible(width.error, found, UNIT):
        return raw
    quantile = t_quantile(1 - level(confidence) / 2, width.freedom)
    return Estimate(
        told,
        *within(told, width.error, quantile, UNIT),
        width.error,
        confidence,
        "length-controlled, logistic",
        found.n,
        found.clusters,
        found.missing,
        few(width.freedom, found),
    )


def _designs(found: Sample) -> tuple[FloatArray, FloatArray]:
    """float64 [n, k]: one, length, difficulty; and the same with no difference in length."""
    apart = found.values[:, 1] - found.values[:, 2]
    scale = float(apart.std(ddof=1))
    columns = [np.ones(found.n), np.tanh(apart / scale) if scale > 0 else np.zeros(found.n)]
    if found.values.shape[1] > 3:
        hard = found.values[:, 3]
        scale = float(hard.std(ddof=1))
        columns.append((hard - hard.mean()) / scale if scale > 0 else np.zeros(found.n))
    own = np.stack(columns, axis=1)
    neutral = own.copy()
    neutral[:, 1] = 0.0
    return own, neutral


def _fitted(own: FloatArray, preferences: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The regression's weights [k], and the curvature [k, k] of the penalised likelihood there (Newton)."""
    weights = np.zeros(own.shape[1])
    ridge = RIDGE * np.eye(own.shape[1])
    bend = ridge
    for _step in range(_STEPS):
        chances = _logistic(own @ weights)
        slope = own.T @ (preferences - chances) - RIDGE * weights
        bend = (own * (chances * (1 - chances))[:, None]).T @ own + ridge
        step = np.asarray(np.linalg.solve(bend, slope), np.float64)
        weights = weights + step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < _SMALL:
            break
    return weights, bend


def _influences(
    preferences: FloatArray,
    own: FloatArray,
    neutral: FloatArray,
    weights: FloatArray,
    bend: FloatArray,
) -> tuple[float, FloatArray]:
    """The rate, and how each example moves it [n]: by being drawn, and through the fit."""
    chances = _logistic(neutral @ weights)
    told = float(chances.mean())
    slope = ((chances * (1 - chances))[:, None] * neutral).mean(axis=0)
    surprise = preferences - _logistic(own @ weights)
    moved = np.asarray(np.linalg.solve(bend / len(own), slope), np.float64)
    return told, chances - told + (own * surprise[:, None]) @ moved


def _logistic(logits: FloatArray) -> FloatArray:
    return np.exp(-np.logaddexp(0.0, -logits))
