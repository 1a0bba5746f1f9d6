"""Fitting: from features and scores to the parts that predict scores.

Plain models, each with few choices: a prior for each category, nearest neighbours, ridge and logistic
regression over mapped features, boosted trees. scikit-learn and scipy are imported here when something is
fitted. Which of them a router takes is `fitting`'s affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daulat.route.learning.features import Features
from daulat.route.learning.mapping import fit_map, sparse
from daulat.route.learning.outcomes import FloatArray
from daulat.route.learning.parts import Linear, Neighbours, Prior, Trees, placed, tabled

STRENGTH: Final = 20.0
"""How many examples' worth of the mean of all is added to a category."""
PENALTIES: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
NEIGHBOURS: Final = 50
MAX_NEIGHBOURS: Final = 4000
DIRECT: Final = 1500
_NEAR_ENOUGH: Final = 1e-5
_DIGITS: Final = 9

TREES: Final[Mapping[str, Any]] = {
    "max_iter": 100,
    "learning_rate": 0.05,
    "max_leaf_nodes": 6,
    "min_samples_leaf": 10,
    "l2_regularization": 10.0,
    "max_features": 0.3,
    "early_stopping": False,
}


def fit_prior(features: Features, scores: FloatArray, strength: float = STRENGTH) -> Prior:
    """The mean of each category, with so many examples' worth of the mean of all."""
    categories = tuple(sorted(set(features.categories) - {""}))
    rest = scores.mean(axis=0)
    place = {name: i for i, name in enumerate(categories)}
    codes = np.array([place.get(name, len(categories)) for name in features.categories])
    counts = np.bincount(codes, minlength=len(categories) + 1)[:-1, None]
    totals = np.zeros((len(categories) + 1, scores.shape[1]))
    np.add.at(totals, codes, scores)
    return Prior(categories, (totals[:-1] + strength * rest) / (counts + strength), rest)


class RidgePath:
    """Ridge regressions over one map for every penalty at once.

    The dual form (C. Saunders, A. Gammerman, V. Vovk, ICML 1998): with the kernel's eigenvalues every penalty
    costs one product. Of more examples than `DIRECT` eigenvalues would take minutes: conjugate gradients
    (M. R. Hestenes, E. Stiefel, 1952) come near enough in seconds.
    """

    def __init__(self, features: Features, scores: FloatArray, *, words: bool) -> None:
        self._map = fit_map(features, words=words)
        self._matrix: Any = self._map.matrix(features)
        self._mean = scores.mean(axis=0)
        self._targets = scores - self._mean
        self._direct = len(scores) <= DIRECT
        if self._direct:
            values, self._basis = np.linalg.eigh((self._matrix @ self._matrix.T).toarray())
            self._values = np.maximum(values, 0.0)
            self._turned = self._basis.T @ self._targets

    def fit(self, penalty: float) -> Linear:
        """The regression with this penalty; the intercept is not penalised."""
        duals = self._solved(penalty) if self._direct else self._approached(penalty)
        weights = np.asarray(self._matrix.T @ duals)
        return Linear(self._map, weights.round(_DIGITS), self._mean, logistic=False)

    def _solved(self, penalty: float) -> FloatArray:
        return self._basis @ (self._turned / (self._values + penalty)[:, None])

    def _approached(self, penalty: float) -> FloatArray:
        linalg: Any = import_module("scipy.sparse.linalg")

        def kernel(duals: FloatArray) -> FloatArray:
            return self._matrix @ (self._matrix.T @ duals) + penalty * duals

        n = len(self._targets)
        operator = linalg.LinearOperator((n, n), kernel, dtype=np.float64)
        found = [linalg.cg(operator, one, rtol=_NEAR_ENOUGH)[0] for one in self._targets.T]
        return np.stack(found, axis=1)


def fit_logistic(features: Features, scores: FloatArray, penalty: float, *, words: bool) -> Linear:
    """Logistic regression over the same map; a score between 0 and 1 counts as that share of a success.

    An endpoint whose scores are all 0 or all 1 gets that, drawn in by one example's worth.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - only while fitting

    map_ = fit_map(features, words=words)
    matrix = map_.matrix(features)
    weights, intercept = np.zeros((map_.size, scores.shape[1])), np.zeros(scores.shape[1])
    for column, target in enumerate(scores.T):
        if target.min() == target.max() and target[0] in (0.0, 1.0):
            share = (target.sum() + 0.5) / (len(target) + 1)
            intercept[column] = np.log(share / (1 - share))
            continue
        x, y, weight = _halved(matrix, target)
        fitted: Any = LogisticRegression(C=1 / penalty, max_iter=300, tol=1e-4)
        fitted.fit(x, y, sample_weight=weight)
        weights[:, column] = fitted.coef_[0]
        intercept[column] = fitted.intercept_[0]
    return Linear(map_, weights.round(_DIGITS), intercept, logistic=True)


def _halved(matrix: Any, target: FloatArray) -> tuple[Any, NDArray[np.int64], FloatArray]:
    """Each example as a success and a failure, weighted by its score."""
    won, lost = np.flatnonzero(target > 0), np.flatnonzero(target < 1)
    x = sparse().csr_array(sparse().vstack([matrix[won], matrix[lost]], format="csr"))
    y = np.repeat([1, 0], [len(won), len(lost)])
    return x, y, np.concatenate([target[won], 1 - target[lost]])


def fit_neighbours(features: Features, scores: FloatArray, seed: int = 0) -> Neighbours:
    """Neighbours among the examples, of which at most `MAX_NEIGHBOURS` are kept."""
    rows = np.arange(len(features))
    if len(rows) > MAX_NEIGHBOURS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_NEIGHBOURS, replace=False))
    map_ = fit_map(features, words=False)
    places = placed(map_, features.take(rows)).round(4)
    return Neighbours(map_, places, scores[rows], NEIGHBOURS, STRENGTH)


def fit_trees(features: Features, scores: FloatArray, seed: int = 0) -> Trees:
    """Histogram gradient boosting (G. Ke et al., NeurIPS 2017) of each endpoint's scores."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - only while fitting

    prior = fit_prior(features, scores)
    table = tabled(prior, features)
    nodes: list[tuple[int, Any]] = []
    baseline = np.zeros(scores.shape[1])
    for column, target in enumerate(scores.T):
        model: Any = HistGradientBoostingRegressor(**TREES, random_state=seed)
        model.fit(table, target)
        nodes += [(column, stage[0].nodes) for stage in model._predictors]
        baseline[column] = np.ravel(model._baseline_prediction)[0]
    return _trees(prior, nodes, baseline)


def _trees(prior: Prior, kept: Sequence[tuple[int, Any]], baseline: FloatArray) -> Trees:
    """One table of nodes for all trees."""
    starts = np.concatenate([[0], np.cumsum([len(nodes) for _, nodes in kept])]).astype(np.int64)
    nodes = np.concatenate([nodes for _, nodes in kept])
    shift = np.repeat(starts[:-1], np.diff(starts))
    leaf = nodes["is_leaf"].astype(bool)
    return Trees(
        prior=prior,
        starts=starts,
        endpoint=np.array([column for column, _ in kept], np.int64),
        feature=np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        left=np.where(leaf, 0, nodes["left"].astype(np.int64) + shift),
        right=np.where(leaf, 0, nodes["right"].astype(np.int64) + shift),
        value=np.where(leaf, nodes["value"], 0.0),
        baseline=baseline,
    )
