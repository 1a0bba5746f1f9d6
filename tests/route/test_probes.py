"""Hidden-state probes in routers: what is learnt from them, when they count, and routers that have none."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from outcome_tables import planted, probed

from daulat.errors import DataError
from daulat.route.learning.features import Seen, extract, seen_in
from daulat.route.learning.fitting import fit
from daulat.route.learning.mapping import fit_map
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.route.learning.router import Router, decide, from_json, to_json

N = 100
FEW = 19
"""Too few to cross-validate: fitted at once, and told what examples have all the same."""


def silent(n: int) -> Outcomes:
    """Answers that say nothing: who is right stands in the probes alone."""
    return probed(replace(planted(n), answers=(("So it is.", "It is so."),) * n))


def without(table: Outcomes) -> Outcomes:
    return replace(table, probes=tuple(((),) * 2 for _ in range(len(table))))


def probes_of(table: Outcomes) -> FloatArray:
    features = extract(seen_in(table, "llama"), "cascade")
    return fit_map(features).probes(features)


@pytest.fixture(scope="module")
def table() -> Outcomes:
    return silent(N)


@pytest.fixture(scope="module")
def router(table: Outcomes) -> Router:
    return fit(table, "cascade")


@pytest.fixture(scope="module")
def blind(table: Outcomes) -> Router:
    return fit(without(table), "cascade")


def test_a_cascade_learns_from_them(router: Router, blind: Router) -> None:
    assert router.given == ("category", "probe")
    assert blind.given == ("category",)
    assert router.figures is not None
    assert blind.figures is not None
    assert router.figures.apgr.value > blind.figures.apgr.value + 0.05


def test_before_does_not_see_them(table: Outcomes) -> None:
    assert extract(seen_in(table, "llama"), "before").probes.shape == (N, 0)
    one, other = (fit(each, "before") for each in (silent(FEW), without(silent(FEW))))
    assert one.given == other.given == ("category",)


def test_they_count_where_every_example_has_one(table: Outcomes) -> None:
    few = silent(FEW)
    some = replace(few, probes=(((), ()), *few.probes[1:]))
    assert fit(few, "cascade").given == ("category", "probe")
    assert fit(some, "cascade").given == ("category",)
    unscored = few.scores.copy()
    unscored[0] = math.nan
    assert fit(replace(some, scores=unscored), "cascade").given == ("category", "probe")


def test_for_who_learnt_from_them_none_is_the_mean(table: Outcomes, router: Router) -> None:
    some = replace(table, probes=(((), ()), *table.probes[1:]))
    features = extract(seen_in(some, "llama"), "cascade")
    assert np.isnan(features.probes[0]).all()
    assert np.isfinite(router.expected(features)).all()
    mean = tuple(np.array([one for one, _ in table.probes]).mean(axis=0).tolist())
    as_mean = replace(table, probes=((mean, ()), *table.probes[1:]))
    found = extract(seen_in(as_mean, "llama"), "cascade")
    assert np.allclose(router.expected(features), router.expected(found))


def test_for_who_did_not_they_change_nothing(table: Outcomes, blind: Router) -> None:
    shown, hidden = (extract(seen_in(one, "llama"), "cascade") for one in (table, without(table)))
    assert np.array_equal(blind.expected(shown), blind.expected(hidden))


def test_a_router_is_stored_with_them(table: Outcomes, router: Router) -> None:
    again = from_json(to_json(router))
    assert again.digest() == router.digest()
    assert again.given == router.given
    features = extract(seen_in(table, "llama"), "cascade")
    assert np.array_equal(again.expected(features), router.expected(features))


def test_a_router_without_them_is_stored_as_before_there_were_any(blind: Router) -> None:
    stored = to_json(blind)
    assert b"probe" not in stored
    assert from_json(stored).digest() == blind.digest()


def test_their_scale_does_not_matter(table: Outcomes) -> None:
    scale = np.array([1e-3, 1e6, 3, 1, 100, 0.1])
    rows = ((tuple((np.array(one) * scale).tolist()), ()) for one, _ in table.probes)
    assert np.allclose(probes_of(replace(table, probes=tuple(rows))), probes_of(table))


def test_a_figure_that_never_varies_says_nothing(table: Outcomes) -> None:
    found = probes_of(replace(table, probes=tuple(((*one, 4.0), ()) for one, _ in table.probes)))
    assert found.shape == (N, 7)
    assert not found[:, -1].any()
    assert (found**2).sum(axis=1).mean() == pytest.approx(6 / 7, rel=0.1)


def test_a_request_is_judged_by_its_own(table: Outcomes, router: Router) -> None:
    one = seen_in(table, "llama")[0]
    found = [
        decide(router, replace(one, probe=(by, 0.0) * 3), 0.5).expected[0] for by in (16.0, -16.0)
    ]
    assert found[0] > found[1] + 0.1


def test_other_lengths_are_refused(router: Router) -> None:
    with pytest.raises(DataError, match="probes of 6 numbers, and these have 2"):
        decide(router, Seen("p", "sums", "So it is.", probe=(1.0, 2.0)), 0.5)
    two = [Seen("p", answer="a", probe=(1.0,)), Seen("q", answer="a", probe=(1.0, 2.0))]
    with pytest.raises(DataError, match="different lengths"):
        extract(two, "cascade")


@pytest.mark.parametrize(
    "damage",
    [
        {"probe_means": {"shape": [0], "data": []}, "probe_spreads": {"shape": [0], "data": []}},
        {"probe_spreads": {"shape": [6], "data": [1.0, 1, 1, 1, 1, 0]}},
        {"probe_spreads": {"shape": [5], "data": [1.0] * 5}},
        {"probe_means": {"shape": [6], "data": [1, 1, 1, 1, 1, None]}},
        {"probe_means": {"shape": [1025], "data": [0.0] * 1025}},
    ],
)
def test_damaged_ones_are_refused(router: Router, damage: dict[str, object]) -> None:
    stored = json.loads(to_json(router))
    part = stored["part"]
    maps = [one["map"] for one in part.get("parts", [part]) if "map" in one]
    assert maps
    maps[0] |= damage
    with pytest.raises(DataError, match="Fit it again"):
        from_json(json.dumps(stored).encode())
