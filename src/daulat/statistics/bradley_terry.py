"""Strengths of more than two endpoints from preferences between pairs of them: the Bradley-Terry model.

P(i is preferred to j) = 1 / (1 + exp(s_j - s_i)), fitted by maximum likelihood with Newton's method, a tie as
half a win each; R. A. Bradley, M. E. Terry, Biometrika 39 (1952). Standard errors are the sandwich's,
clustered, so that they hold though the model is only near the truth (H. White, Econometrica 50 (1982)).
Strengths are logits that add up to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daulat.statistics.intervals import FEWEST
from daulat.statistics.samples import (
    Caveat,
    Estimate,
    IntArray,
    Labels,
    Numbers,
    Sample,
    added,
    floats,
    level,
    sample,
)
from daulat.statistics.special import FloatArray, t_quantile

_STEPS = 100
_SMALL = 1e-10
MOST_ENDPOINTS = 1000


@dataclass(frozen=True, slots=True)
class Strength:
    """An endpoint's place among the others.

    Attributes:
        name: the endpoint's.
        strength: in logits, with an interval; 0 is the average endpoint.
        rate: expected win rate against the others of the field, each as often.
        comparisons: how many verdicts it took part in.
    """

    name: str
    strength: Estimate
    rate: float
    comparisons: int


@dataclass(frozen=True, slots=True)
class _Games:
    left: IntArray
    right: IntArray
    preferences: FloatArray
    weights: FloatArray


def bradley_terry(
    left: Labels,
    right: Labels,
    preferences: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
) -> tuple[Strength, ...]:
    """Strengths, the strongest first.

    Where some endpoints never lost to some others the likelihood has no maximum (L. R. Ford, American
    Mathematical Monthly 64 (1957)): then each pair of endpoints gets one more tie, and each estimate says so.
    The order is the data's; how far apart they are, and the intervals, hang on that tie.

    Args:
        left, right: [n] endpoints' names.
        preferences: [n] in [0, 1] for the left one; NaN: no verdict, left out.
        clusters: [n] verdicts on one example belong together; None: each stands alone.

    Raises:
        ValueError: lengths differ, a preference lies outside of [0, 1], an endpoint meets itself, or there
            are more than 1,000 endpoints.
    """
    names, games, found = _games(left, right, preferences, clusters)
    if not found.n:
        return ()
    separated = not _connected(games, len(names))
    fitted = _with_ties(games, len(names)) if separated else games
    strengths, curvature = _fit(fitted, len(names))
    errors, freedom = _errors(strengths, curvature, games, found)
    caveat = _caveat(separated, freedom)
    rows = [
        Strength(
            names[one],
            _estimate(
                float(strengths[one]), float(errors[one]), freedom, confidence, found, caveat
            ),
            _rate(strengths, one),
            int(((games.left == one) | (games.right == one)).sum()),
        )
        for one in range(len(names))
    ]
    return tuple(sorted(rows, key=lambda row: (-(row.strength.value or 0.0), row.name)))


def _games(
    left: Labels, right: Labels, preferences: Numbers, clusters: Labels | None
) -> tuple[list[str], _Games, Sample]:
    told = floats(preferences)
    sides = np.asarray(left, dtype=np.str_), np.asarray(right, dtype=np.str_)
    if not len(sides[0]) == len(sides[1]) == len(told):
        raise ValueError("Names and preferences differ in length.")
    found, kept = sample(told, clusters=clusters), ~np.isnan(told)
    if found.n and (found.values.min() < 0 or found.values.max() > 1):
        raise ValueError("A preference lies outside of 0 to 1.")
    if (sides[0] == sides[1])[kept].any():
        raise ValueError("An endpoint is compared with itself.")
    both = np.concatenate([sides[0][kept], sides[1][kept]])
    names, codes = np.unique(both, return_inverse=True)
    if len(names) > MOST_ENDPOINTS:
        raise ValueError(f"There are more than {MOST_ENDPOINTS} endpoints.")
    first, second = codes.reshape(2, -1).astype(np.int64)
    games = _Games(first, second, found.values[:, 0], np.ones(found.n))
    return [str(name) for name in names], games, found


def _connected(games: _Games, count: int) -> bool:
    """Whether each endpoint beats each other at least over a chain of wins (Ford's condition)."""
    beats = np.eye(count, dtype=np.bool_)
    won, lost = games.preferences > 0, games.preferences < 1
    beats[games.left[won], games.right[won]] = True
    beats[games.right[lost], games.left[lost]] = True
    return bool(_reached(beats).all() and _reached(beats.T).all())


def _reached(beats: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[k] which endpoints a chain from the first one reaches."""
    seen = beats[0]
    while True:
        more = seen | beats[seen].any(axis=0)
        if (more == seen).all():
            return seen
        seen = more


def _with_ties(games: _Games, count: int) -> _Games:
    first, second = np.triu_indices(count, 1)
    extra = len(first)
    return _Games(
        np.concatenate([games.left, first]),
        np.concatenate([games.right, second]),
        np.concatenate([games.preferences, np.full(extra, 0.5)]),
        np.concatenate([games.weights, np.ones(extra)]),
    )


def _fit(games: _Games, count: int) -> tuple[FloatArray, FloatArray]:
    """Strengths [k] and the curvature [k, k] of the log-likelihood there; steps are halved until it rises."""
    strengths, best = np.zeros(count), -np.inf
    step = np.zeros(count)
    curvature = np.zeros((count, count))
    for _turn in range(_STEPS):
        tried, value = _climbed(games, strengths, step, best)
        rise, strengths, best = value - best, tried, value
        gradient, curvature = _slopes(games, strengths, count)
        step = np.asarray(np.linalg.solve(curvature + 1.0 / count, gradient), np.float64)
        if rise < _SMALL and float(np.abs(step).max()) < _SMALL**0.5:
            break
    return strengths - strengths.mean(), curvature


def _climbed(
    games: _Games, strengths: FloatArray, step: FloatArray, best: float
) -> tuple[FloatArray, float]:
    for _halving in range(30):
        tried = strengths + step
        value = _likelihood(games, tried)
        if value >= best:
            return tried, value
        step = step / 2
    return strengths, best


def _likelihood(games: _Games, strengths: FloatArray) -> float:
    logits = strengths[games.left] - strengths[games.right]
    each = games.preferences * logits - np.logaddexp(0.0, logits)
    return float(games.weights @ each)


def _slopes(games: _Games, strengths: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    expected = _expected(strengths, games)
    surprise = games.weights * (games.preferences - expected)
    gradient = added(games.left, surprise, count) - added(games.right, surprise, count)
    spread = games.weights * expected * (1 - expected)
    curvature = np.zeros((count, count))
    for one, other, sign in (
        (games.left, games.left, 1),
        (games.right, games.right, 1),
        (games.left, games.right, -1),
        (games.right, games.left, -1),
    ):
        np.add.at(curvature, (one, other), sign * spread)
    return gradient, curvature


def _expected(strengths: FloatArray, games: _Games) -> FloatArray:
    return np.exp(-np.logaddexp(0.0, strengths[games.right] - strengths[games.left]))


def _errors(
    strengths: FloatArray, curvature: FloatArray, games: _Games, found: Sample
) -> tuple[FloatArray, int]:
    """Standard errors [k] and the degrees of freedom; of few clusters the larger of sandwich's and model's."""
    count = len(strengths)
    centred = np.eye(count) - 1.0 / count
    inverse = centred @ np.linalg.inv(curvature + 1.0 / count) @ centred
    surprise = games.preferences - _expected(strengths, games)
    scores = np.zeros((found.clusters, count))
    np.add.at(scores, (found.codes, games.left), surprise)
    np.add.at(scores, (found.codes, games.right), -surprise)
    groups = found.clusters
    correction = groups / max(1, groups - 1) * (found.n - 1) / max(1, found.n - count + 1)
    sandwich = np.diag(inverse @ (scores.T @ scores) @ inverse) * correction
    model = np.diag(inverse)
    wider = np.maximum(sandwich, model) if groups <= 2 * count else sandwich
    return np.sqrt(np.maximum(wider, 0.0)), max(1, groups - 1)


def _caveat(separated: bool, freedom: int) -> Caveat:
    if separated:
        return Caveat.SEPARATED
    return Caveat.FEW_CLUSTERS if freedom < FEWEST else Caveat.NONE


def _estimate(
    value: float, error: float, freedom: int, confidence: float, found: Sample, caveat: Caveat
) -> Estimate:
    half = t_quantile(1 - level(confidence) / 2, freedom) * error
    counts = (found.n, found.clusters, found.missing)
    method = "Bradley-Terry, sandwich"
    return Estimate(value, value - half, value + half, error, confidence, method, *counts, caveat)


def _rate(strengths: FloatArray, one: int) -> float:
    others = np.delete(strengths, one)
    return float(np.exp(-np.logaddexp(0.0, others - strengths[one])).mean())
