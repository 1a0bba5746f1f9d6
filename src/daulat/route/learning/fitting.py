"""Fitting a router on outcomes: candidates, cross-validation, calibration, the dial.

Every candidate predicts every example from a fit that has not seen it nor anything of its cluster or with its
prompt. The one that explains most of what the dearer endpoints gain is taken, its predictions are
calibrated, the dial is set to them, and it is fitted again on all. Rows without every endpoint's score are
left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daulat.errors import DataError, RequestError
from daulat.route.learning import models
from daulat.route.learning.choosing import Steps, spent, steps
from daulat.route.learning.curves import Figures, figures
from daulat.route.learning.features import Encode, Features, Mode, extract, seen_in
from daulat.route.learning.folds import folds, groups, in_order
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.route.learning.parts import Average, Part
from daulat.route.learning.profile import profile
from daulat.route.learning.router import STOPS, FittedOn, Point, Router, calibrated

FOLDS: Final = 5
LEAST_GROUPS: Final = 20
"""With fewer nothing can be cross-validated: the router then knows the mean scores alone."""
MAX_LABELS: Final = 6000
"""The most examples that are learnt from; of more, so many are drawn."""
POINTS: Final = 101
_LOGISTIC: Final = (2.5, 10.0)
_SLOPE: Final = 4.0
_SURE: Final = 2.0
_LEAST_SLOPE: Final = 0.05
"""Of few examples the best line may fall by chance. Then too, more is expected where more is predicted."""
_LEAST_SPREAD: Final = 1e-12

Tell = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def fit(
    outcomes: Outcomes,
    mode: Mode,
    *,
    endpoints: Sequence[str] = (),
    labels: int = 0,
    seed: int = 0,
    encode: Encode | None = None,
    encoder: str = "",
    tell: Tell = lambda _what, _done, _total: None,
) -> Router:
    """Fit a router.

    Args:
        endpoints: those it chooses from, from cheap to dear; empty: all, ordered by mean cost, or by mean score
            where costs are not known.
        labels: learn from so many examples, drawn at random; 0: from all, at most `MAX_LABELS`.
        encode: makes vectors of prompts; `encoder` is its name, kept in the router.

    Raises:
        DataError: too little is known to fit anything.
        RequestError: arguments that do not fit the table.
    """
    table = usable(outcomes, endpoints)
    _check(table, mode, labels)
    learnt = table.take(_drawn(table, labels or MAX_LABELS, seed))
    of = groups(learnt)
    tell("features", 0, 1)
    features = extract(seen_in(learnt, learnt.endpoints[0]), mode, encode)
    prices = _prices(learnt, mode)
    fitted = _Candidates(features, learnt.scores, seed)
    found = _cross_validated(features, learnt.scores, of, seed, tell)
    worth = {name: explained(learnt.scores, one) for name, one in found.items()}
    best = _chosen(found, worth, learnt.scores, of)
    tell("last fit", 0, 1)
    part = fitted.one(best)
    slopes, intercepts = _lines(found.get(best), learnt.scores)
    raw = found.get(best, part.predict(features))
    held_out = calibrated(raw, slopes, intercepts)
    chosen = steps(held_out, prices)
    dial = _dial(chosen.needs())
    return Router(
        mode=mode,
        endpoints=table.endpoints,
        prices=prices,
        encoder=encoder if encode is not None else "",
        part=part,
        slopes=slopes,
        intercepts=intercepts,
        dial=dial,
        fitted_on=FittedOn(
            outcomes.digest(),
            len(table),
            len(learnt),
            int(of.max()) + 1,
            len(outcomes) - len(table),
            labels,
            seed,
        ),
        candidates=tuple(sorted(worth.items(), key=lambda one: -one[1])),
        curve=_curve(learnt, chosen, dial, mode) if found else (),
        figures=_two(learnt, chosen, seed) if found else None,
        given=_given(learnt, mode),
        profile=profile(learnt.prompts),
    )


def _given(learnt: Outcomes, mode: Mode) -> tuple[str, ...]:
    """What some of these examples have besides a prompt and an answer, of `router.GIVEN`."""
    given = ["category"] if any(learnt.categories) else []
    if mode == "cascade":
        given += ["logprob"] if not np.isnan(learnt.logprobs[:, 0]).all() else []
        given += ["samples"] if any(row[0] for row in learnt.samples) else []
        given += ["probe"] if any(row[0] for row in learnt.probes) else []
    return tuple(given)


# --- which rows and endpoints ---------------------------------------------------------------------


def usable(outcomes: Outcomes, endpoints: Sequence[str] = ()) -> Outcomes:
    """The rows with every score, in an order of their own, and the endpoints from cheap to dear.

    Probes are left where every one of these rows has one.

    Raises:
        DataError: there are none.
        RequestError: fewer than two endpoints, or one of them twice.
    """
    chosen = outcomes.only(endpoints) if endpoints else outcomes
    if len(chosen.endpoints) < 2:
        raise RequestError("A router needs two endpoints to choose from.", param="endpoints")
    whole = np.flatnonzero(~np.isnan(chosen.scores).any(axis=1))
    if len(whole) == 0:
        names = ", ".join(chosen.endpoints)
        raise DataError(
            f"No example has a score of every one of {names}. Score their answers to the same examples, or "
            "name other endpoints."
        )
    rows = chosen.take(whole).with_whole_probes()
    rows = rows.take(in_order(rows))
    return rows if endpoints else rows.only(cheap_to_dear(rows))


def cheap_to_dear(outcomes: Outcomes) -> list[str]:
    """The endpoints by mean cost, or by mean score where a cost is not known."""
    costs = _mean_costs(outcomes)
    scores = np.nan_to_num(np.nanmean(outcomes.scores, axis=0))
    known = not np.isnan(costs).any()
    keys = [
        (float(costs[c]) if known else 0.0, float(scores[c]), name)
        for c, name in enumerate(outcomes.endpoints)
    ]
    return [name for _, _, name in sorted(keys)]


def _mean_costs(outcomes: Outcomes) -> FloatArray:
    known = ~np.isnan(outcomes.costs)
    total = np.where(known, outcomes.costs, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _prices(outcomes: Outcomes, mode: Mode) -> FloatArray:
    """What each endpoint costs more than the first; in a cascade the first one's answer is paid for already."""
    costs = _mean_costs(outcomes)
    k = len(costs)
    if np.isnan(costs).any() or costs.max() <= 0:
        return np.arange(k, dtype=np.float64)
    prices = costs.copy()
    if mode == "cascade":
        prices[0] = 0.0
    least = 1e-6 * float(costs.max())
    for i in range(1, k):
        prices[i] = max(prices[i], prices[i - 1] + least)
    return prices


def _check(table: Outcomes, mode: Mode, labels: int) -> None:
    if labels < 0:
        raise RequestError("The number of labels cannot be below 0.", param="labels")
    if mode == "cascade" and all(row[0] is None for row in table.answers):
        raise RequestError(
            f"A cascade looks at the answers of {table.endpoints[0]}, and the table has none. Add them "
            "(docs/outcomes.md), or fit with --mode before.",
            param="mode",
        )


def not_seen(outcomes: Outcomes, router: Router) -> Outcomes:
    """The examples that a router was not fitted on, nor anything of their cluster or with their prompt.

    Of another table than that which it was fitted on, all of it.
    """
    on = router.fitted_on
    if on.outcomes != outcomes.digest():
        return outcomes
    table = usable(outcomes, router.endpoints)
    learnt = frozenset(table.take(_drawn(table, on.limit or MAX_LABELS, on.seed)).ids)
    of = groups(outcomes)
    seen = np.array([own in learnt for own in outcomes.ids], bool)
    return outcomes.take(np.flatnonzero(~np.isin(of, of[seen])))


def _drawn(table: Outcomes, most: int, seed: int) -> NDArray[np.int64]:
    if len(table) <= most:
        return np.arange(len(table))
    drawn = np.random.default_rng(seed).choice(len(table), most, replace=False)
    return np.sort(drawn)


# --- candidates -----------------------------------------------------------------------------------


class _Candidates:
    """Everything that is tried, fitted on the same examples when it is asked for."""

    def __init__(self, features: Features, scores: FloatArray, seed: int) -> None:
        self._features = features
        self._scores = scores
        self._seed = seed
        self._paths: dict[bool, models.RidgePath] = {}
        self._trees: Part | None = None

    def one(self, name: str) -> Part:
        """The candidate of that name."""
        if " + " in name:
            return Average(tuple(self.one(part) for part in name.split(" + ")))
        kind, _, rest = name.partition(" ")
        features, scores = self._features, self._scores
        made: Mapping[str, Callable[[], Part]] = {
            "mean": lambda: models.fit_prior(features.without_categories(), scores),
            "prior": lambda: models.fit_prior(features, scores),
            "neighbours": lambda: models.fit_neighbours(features, scores, self._seed),
            "logistic": lambda: models.fit_logistic(features, scores, float(rest), words=True),
            "trees": self._boosted,
            "ridge": lambda: self._ridge(*rest.split(" ")),
        }
        return made[kind]()

    def all(self) -> Iterator[tuple[str, Part]]:
        """Each plain candidate with its name; averages are made of their predictions."""
        if any(self._features.categories):
            yield "prior", self.one("prior")
        yield "neighbours", self.one("neighbours")
        for penalty in models.PENALTIES:
            for block in ("words", "figures"):
                yield f"ridge {block} {penalty:g}", self.one(f"ridge {block} {penalty:g}")
        for penalty in _LOGISTIC:
            yield f"logistic {penalty:g}", self.one(f"logistic {penalty:g}")
        yield "trees", self.one("trees")

    def _ridge(self, block: str, penalty: str) -> Part:
        words = block == "words"
        if words not in self._paths:
            self._paths[words] = models.RidgePath(self._features, self._scores, words=words)
        return self._paths[words].fit(float(penalty))

    def _boosted(self) -> Part:
        if self._trees is None:
            self._trees = models.fit_trees(self._features, self._scores, self._seed)
        return self._trees


def _cross_validated(
    features: Features, scores: FloatArray, of: NDArray[np.int64], seed: int, tell: Tell
) -> Mapping[str, FloatArray]:
    """float64 [n, k] of every candidate, each row predicted without its group; empty: too few groups."""
    if int(of.max()) + 1 < LEAST_GROUPS:
        return {}
    found: dict[str, FloatArray] = {}
    parts = folds(of, FOLDS, seed)
    for i, held in enumerate(parts):
        tell("cross-validation", i, len(parts))
        rest = np.setdiff1d(np.arange(len(of)), held)
        tried = _Candidates(features.take(rest), scores[rest], seed)
        out = features.take(held)
        for name, part in tried.all():
            found.setdefault(name, np.empty_like(scores))[held] = part.predict(out)
    return {**found, **_averages(found, scores)}


def _averages(found: Mapping[str, FloatArray], scores: FloatArray) -> dict[str, FloatArray]:
    """The best ridge regression and the best logistic one, each together with the trees, and all three."""
    ridge = _nearest(found, scores, "ridge")
    logistic = _nearest(found, scores, "logistic")
    kinds = [(ridge, "trees"), (logistic, "trees"), (ridge, logistic, "trees")]
    return {" + ".join(one): np.mean([found[name] for name in one], axis=0) for one in kinds}


def _nearest(found: Mapping[str, FloatArray], scores: FloatArray, kind: str) -> str:
    errors = {
        name: float(((one - scores) ** 2).mean())
        for name, one in found.items()
        if name.startswith(kind)
    }
    return min(errors, key=lambda name: errors[name])


def _chosen(
    found: Mapping[str, FloatArray],
    worth: Mapping[str, float],
    scores: FloatArray,
    of: NDArray[np.int64],
) -> str:
    """The candidate to take: the average of a logistic regression and trees, unless another is surely better.

    Differences between candidates are mostly chance, and an average varies least; so what explains more must do
    so by two standard errors: one, by which L. Breiman et al. (1984) prune trees, is little for the best of
    twenty. Without differences between endpoints, or without cross-validation, the mean scores.
    """
    gains = scores[:, 1:] - scores[:, :1]
    if not found or (gains == gains[0]).all():
        return "mean"
    best = max(worth, key=lambda name: worth[name])
    steady = next(name for name in found if name.startswith("logistic") and "+" in name)
    lost = _errors(scores, found[steady]) - _errors(scores, found[best])
    by_group = np.bincount(of, lost - lost.mean())
    error = math.sqrt(float((by_group**2).sum())) / len(lost)
    return best if float(lost.mean()) > _SURE * error else steady


def _errors(scores: FloatArray, expected: FloatArray) -> FloatArray:
    """float64 [n]: the squared errors of gains, predicted on their best lines."""
    slopes, intercepts = _lines(expected, scores)
    said = calibrated(expected, slopes, intercepts)
    gap = (scores[:, 1:] - scores[:, :1]) - (said[:, 1:] - said[:, :1])
    return (gap**2).sum(axis=1)


def explained(scores: FloatArray, expected: FloatArray) -> float:
    """The share of the variance of gains over the first endpoint that predictions explain on their best lines.

    It is what a cost-quality curve comes from, and far less a matter of chance than the area below the curve
    (docs/experiments.md).
    """
    gains, said = scores[:, 1:] - scores[:, :1], expected[:, 1:] - expected[:, :1]
    gains, said = gains - gains.mean(axis=0), said - said.mean(axis=0)
    total, spread = float((gains**2).mean(axis=0).sum()), (said**2).mean(axis=0)
    together = np.maximum((gains * said).mean(axis=0), 0.0)
    known = spread > _LEAST_SPREAD
    got = float((together[known] ** 2 / spread[known]).sum())
    return got / total if total > _LEAST_SPREAD else 0.0


# --- calibration, dial, curve ---------------------------------------------------------------------


def _lines(raw: FloatArray | None, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slope and intercept of each line that fits scores and gains best out of fold; slopes always rise.

    A gain's line is that of least squares, so its slope says how much of what is predicted is real.
    """
    k = scores.shape[1]
    slopes, intercepts = np.ones(k), np.zeros(k)
    if raw is None:
        return slopes, intercepts
    for column in range(k):
        x = raw[:, column] - (raw[:, 0] if column else 0.0)
        y = scores[:, column] - (scores[:, 0] if column else 0.0)
        slopes[column] = _slope(x, y)
        intercepts[column] = y.mean() - slopes[column] * x.mean()
    return slopes, intercepts


def _slope(x: FloatArray, y: FloatArray) -> float:
    spread = float(x.var())
    if spread < _LEAST_SPREAD:
        return 0.0
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread
    return min(max(slope, _LEAST_SLOPE), _SLOPE)


def _dial(needs: FloatArray) -> FloatArray:
    """What a unit of price is worth at each setting, so that as much work as the setting says is above it."""
    return np.quantile(needs, np.linspace(1, 0, STOPS))


def _curve(outcomes: Outcomes, chosen: Steps, dial: FloatArray, mode: Mode) -> tuple[Point, ...]:
    points: list[Point] = []
    for level in np.linspace(0, 1, POINTS):
        worth = _worth(float(level), dial)
        one = spent(outcomes, chosen.choose(worth), mode)
        points.append(Point(float(level), one.share, one.quality, one.cost, one.seconds))
    return tuple(points)


def _worth(level: float, dial: FloatArray) -> float:
    if level in (0.0, 1.0):
        return math.inf if level == 0.0 else -math.inf
    return float(np.interp(level, np.linspace(0, 1, STOPS), dial))


def _two(outcomes: Outcomes, chosen: Steps, seed: int) -> Figures | None:
    if len(outcomes.endpoints) != 2:
        return None
    cheap, dear = outcomes.scores.T
    return figures(chosen.needs(), cheap, dear, outcomes.clusters, seed=seed)
