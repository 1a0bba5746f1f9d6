"""What numpy applies is what scikit-learn predicts, and what is stored is what was fitted."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcome_tables import planted, probed

from daulat.errors import DataError
from daulat.route.learning import models
from daulat.route.learning.features import FIGURES, Features, Mode, extract, seen_in
from daulat.route.learning.mapping import CENTRES, fit_map
from daulat.route.learning.parts import Average, Part, tabled
from daulat.route.learning.storing import as_plain, from_plain

QUICK = settings(deadline=None, max_examples=25)
WIDTH = len(FIGURES["cascade"])


def _features(n: int, seed: int = 0, mode: Mode = "cascade", k: int = 2) -> tuple[Features, Any]:
    table = probed(planted(n, seed, k=k), seed)
    vectors = np.random.default_rng(seed).normal(size=(n, 4))
    seen = seen_in(table, table.endpoints[0])
    found = extract(seen, mode, lambda texts: vectors[: len(texts)])
    return found, table.scores


@pytest.fixture(scope="module")
def learnt() -> tuple[Features, Any]:
    return _features(120)


@pytest.fixture(scope="module")
def new() -> Features:
    return _features(50, 1)[0]


FITS: dict[str, Callable[[Features, Any], Part]] = {
    "prior": models.fit_prior,
    "ridge": lambda f, s: models.RidgePath(f, s, words=True).fit(3.0),
    "logistic": lambda f, s: models.fit_logistic(f, s, 2.0, words=True),
    "neighbours": models.fit_neighbours,
    "trees": models.fit_trees,
    "average": lambda f, s: Average((models.fit_prior(f, s), models.fit_trees(f, s))),
}


def test_ridge_is_that_of_scikit_learn(learnt: tuple[Features, Any], new: Features) -> None:
    from sklearn.linear_model import Ridge

    features, scores = learnt
    for words in (True, False):
        path = models.RidgePath(features, scores, words=words)
        map_ = fit_map(features, words=words)
        for penalty in (0.5, 10.0):
            theirs = Ridge(alpha=penalty, solver="cholesky")
            matrix = map_.matrix(features).toarray()
            # Ours leaves the features where they are: the intercept is the mean score.
            theirs.set_params(fit_intercept=False).fit(matrix, scores - scores.mean(axis=0))
            expected = theirs.predict(map_.matrix(new).toarray()) + scores.mean(axis=0)
            assert np.allclose(path.fit(penalty).predict(new), expected, atol=1e-5)


def test_conjugate_gradients_come_near(
    learnt: tuple[Features, Any], new: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    for penalty in models.PENALTIES:
        exact = models.RidgePath(*learnt, words=True).fit(penalty).predict(new)
        with monkeypatch.context() as one:
            one.setattr(models, "DIRECT", 10)
            near = models.RidgePath(*learnt, words=True).fit(penalty).predict(new)
        assert np.abs(near - exact).max() < 1e-4


def test_logistic_is_that_of_scikit_learn(learnt: tuple[Features, Any], new: Features) -> None:
    from sklearn.linear_model import LogisticRegression

    features, scores = learnt
    part = models.fit_logistic(features, scores, 2.0, words=True)
    map_ = fit_map(features)
    theirs = LogisticRegression(C=0.5, tol=1e-8, max_iter=2000)
    for column in range(2):
        theirs.fit(map_.matrix(features), scores[:, column])
        expected = theirs.predict_proba(map_.matrix(new))[:, 1]
        assert np.allclose(part.predict(new)[:, column], expected, atol=2e-3)


def test_trees_are_those_of_scikit_learn(learnt: tuple[Features, Any], new: Features) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    features, scores = learnt
    part = models.fit_trees(features, scores, seed=3)
    prior = models.fit_prior(features, scores)
    for column in range(2):
        theirs = HistGradientBoostingRegressor(**models.TREES, random_state=3)
        theirs.fit(tabled(prior, features), scores[:, column])
        expected = theirs.predict(tabled(prior, new))
        assert np.allclose(part.predict(new)[:, column], expected, rtol=1e-12, atol=1e-12)


def test_neighbours_are_those_of_scikit_learn(learnt: tuple[Features, Any], new: Features) -> None:
    from sklearn.neighbors import KNeighborsRegressor

    features, scores = learnt
    part = models.fit_neighbours(features, scores)
    map_ = fit_map(features, words=False)

    def places(of: Features) -> np.ndarray:
        z = map_.standard(of) / len(map_.columns) ** 0.5
        return np.concatenate([z, of.vectors, map_.probes(of)], axis=1).round(4)

    theirs = KNeighborsRegressor(models.NEIGHBOURS).fit(places(features), scores)
    mean = theirs.predict(places(new)) * models.NEIGHBOURS + models.STRENGTH * scores.mean(axis=0)
    assert np.allclose(part.predict(new), mean / (models.NEIGHBOURS + models.STRENGTH), atol=0.02)


def test_a_prior_is_a_mean_drawn_towards_all(learnt: tuple[Features, Any]) -> None:
    features, scores = learnt
    part = models.fit_prior(features, scores, strength=20)
    names = np.array(features.categories)
    for name in ("sums", "words"):
        mine = scores[names == name]
        expected = (mine.sum(axis=0) + 20 * scores.mean(axis=0)) / (len(mine) + 20)
        first = features.take(np.flatnonzero(names == name)[:1])
        assert np.allclose(part.predict(first)[0], expected)
    assert np.allclose(part.predict(features.without_categories()), scores.mean(axis=0))


def test_the_map_is_its_matrix(learnt: tuple[Features, Any], new: Features) -> None:
    map_ = fit_map(learnt[0])
    weights = np.random.default_rng(0).normal(size=(map_.size, 2))
    assert np.allclose(map_.product(new, weights), map_.matrix(new) @ weights)


@QUICK
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_bumps_are_a_gaussian_kernel(a: float, b: float) -> None:
    one, other = np.exp(-((a - CENTRES) ** 2)), np.exp(-((b - CENTRES) ** 2))
    inside = abs(a) <= 1.5 and abs(b) <= 1.5
    kernel = float(one @ other) * 0.75 / (np.pi / 2) ** 0.5
    assert kernel == pytest.approx(np.exp(-((a - b) ** 2) / 2), abs=0.01 if inside else 0.6)


@pytest.mark.parametrize("kind", FITS)
def test_a_stored_part_predicts_the_same(
    kind: str, learnt: tuple[Features, Any], new: Features
) -> None:
    part = FITS[kind](*learnt)
    again = from_plain(json.loads(json.dumps(as_plain(part))), 2, WIDTH)
    assert again.name == part.name
    assert np.array_equal(again.predict(new), part.predict(new))


@pytest.mark.parametrize("kind", FITS)
def test_examples_are_predicted_one_by_one(
    kind: str, learnt: tuple[Features, Any], new: Features
) -> None:
    part = FITS[kind](*learnt)
    whole = part.predict(new)
    for i in (0, 7, 49):
        assert np.allclose(part.predict(new.take(np.array([i])))[0], whole[i], atol=1e-5)


def _numbers(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for key, one in value.items() for p in _numbers(one, (*path, key))]
    if isinstance(value, list):
        return [p for i, one in enumerate(value[:3]) for p in _numbers(one, (*path, i))]
    return [path]


@pytest.mark.parametrize("kind", FITS)
@QUICK
@given(data=st.data())
def test_a_damaged_part_is_refused_or_harmless(kind: str, data: st.DataObject) -> None:
    plain = _PLAIN.setdefault(kind, as_plain(FITS[kind](*_features(60))))
    broken = copy.deepcopy(plain)
    path = data.draw(st.sampled_from(_numbers(broken)))
    junk = st.sampled_from([None, -1, 1e308, 1 << 40, "x", [], {}, True, 0.5, float("nan")])
    inner: Any = broken
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(junk)
    try:
        part = from_plain(broken, 2, WIDTH)
    except DataError as error:
        assert "Fit it again" in error.message  # noqa: PT017 - it need not be refused
        return
    with np.errstate(all="ignore"):
        assert part.predict(_features(5, 2)[0]).shape == (5, 2)


_PLAIN: dict[str, Any] = {}


@pytest.mark.parametrize("kind", FITS)
def test_one_class_only(kind: str) -> None:
    features, scores = _features(40)
    for constant in (0.0, 1.0, 0.5):
        part = FITS[kind](features, np.full_like(scores, constant))
        assert np.allclose(part.predict(features), constant, atol=0.1)


@pytest.mark.parametrize("kind", FITS)
def test_one_example(kind: str) -> None:
    features, scores = _features(1)
    found = FITS[kind](features, scores).predict(features)
    assert np.isfinite(found).all()
