"""Judges corrected by humans: against glide-py's answers, the paper's formulas, and at the edges."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.statistics.intervals import mean
from daulat.statistics.prediction_powered import corrected_difference, corrected_mean
from daulat.statistics.samples import Caveat

CASES = json.loads((Path(__file__).parent / "glide_figures.json").read_text(encoding="utf-8"))[
    "cases"
]
NOWHERE = (-9.0, 9.0)
ROWS = st.lists(
    st.tuples(
        st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.5, 1.0])),
        st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.5, 1.0])),
        st.integers(0, 6),
    ),
    max_size=30,
)


def _columns(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    labels = [math.nan if one is None else one for one in case["labels"]]
    return np.array(labels), np.array(case["judge"])


@pytest.mark.parametrize("case", CASES)
def test_untuned_it_is_glides(case: dict[str, Any]) -> None:
    told = corrected_mean(*_columns(case), clusters=case["clusters"], tuned=False).estimate
    assert told.value == pytest.approx(case["untuned"]["mean"], abs=1e-12)
    assert told.error == pytest.approx(case["untuned"]["error"], rel=1e-9)


@pytest.mark.parametrize("case", [one for one in CASES if one["clusters"] is None])
def test_tuned_it_is_glides_with_a_little_more_caution(case: dict[str, Any]) -> None:
    told = corrected_mean(*_columns(case)).estimate
    assert told.value == pytest.approx(case["tuned"]["mean"], abs=1e-12)
    assert case["tuned"]["error"] <= (told.error or 0) < 1.1 * case["tuned"]["error"]


@pytest.mark.parametrize("case", [one for one in CASES if one["clusters"] is not None])
def test_tuned_in_clusters_it_is_near_glides(case: dict[str, Any]) -> None:
    """glide pools the judge's variance over labelled and other clusters; here each part has its own."""
    told = corrected_mean(*_columns(case), clusters=case["clusters"]).estimate
    assert told.value == pytest.approx(case["tuned"]["mean"], abs=0.15 * case["tuned"]["error"])
    assert told.error == pytest.approx(case["tuned"]["error"], rel=0.35)


def test_the_weight_is_the_papers() -> None:
    labels, judge = _columns(CASES[1])
    told = ~np.isnan(labels)
    n, rest = int(told.sum()), int((~told).sum())
    shared = np.cov(labels[told], judge[told])[0, 1]
    assert corrected_mean(labels, judge).weight == pytest.approx(
        shared / ((1 + n / rest) * judge.var(ddof=1))
    )


def test_a_useless_judge_is_not_heard_and_a_perfect_one_is() -> None:
    generator = np.random.default_rng(1)
    truth = (generator.random(4000) < 0.6) * 1.0
    labels = np.where(np.arange(4000) < 400, truth, math.nan)
    noise = corrected_mean(labels, generator.random(4000))
    assert abs(noise.weight) < 0.2
    assert noise.worth == pytest.approx(400, rel=0.05)
    perfect = corrected_mean(labels, truth)
    assert perfect.weight == pytest.approx(0.9, abs=0.1)
    assert (perfect.worth or 0) > 2500


def test_an_unkind_judge_is_corrected() -> None:
    generator = np.random.default_rng(2)
    truth = generator.random(3000)
    judge = np.clip(truth - 0.3, 0, 1)
    labels = np.where(generator.permutation(3000) < 300, truth, math.nan)
    told = corrected_mean(labels, judge)
    assert truth.mean() in told.estimate
    assert truth.mean() not in told.judge_only
    assert told.estimate.high - told.estimate.low < told.labels_only.high - told.labels_only.low


def test_clusters_that_have_both_kinds_of_example() -> None:
    """Copies of an example, one labelled and one not, are one example."""
    generator = np.random.default_rng(3)
    truth = generator.random(80)
    judge = np.clip(truth + 0.2 * generator.normal(size=80), 0, 1)
    labels = np.r_[truth, np.full(80, math.nan)]
    twice, documents = np.tile(judge, 2), np.tile(np.arange(80), 2)
    told = corrected_mean(labels, twice, clusters=documents, tuned=False, bounds=NOWHERE)
    assert told.estimate.value == pytest.approx(truth.mean())
    assert told.estimate.error == pytest.approx(mean(truth).error, rel=1e-9)


def test_differences_mirror() -> None:
    generator = np.random.default_rng(4)
    a, b, x, y = generator.random((4, 60))
    a[20:] = math.nan
    one = corrected_difference((a, b), (x, y)).estimate
    other = corrected_difference((b, a), (y, x)).estimate.mirrored()
    assert (one.low, one.high) == pytest.approx((other.low, other.high))
    assert one.n == 20


@settings(max_examples=80, deadline=None)
@given(ROWS, st.booleans(), st.randoms())
def test_any_labels_are_sound_and_know_no_order(
    rows: list[tuple[float, float, int]], tuned: bool, random: object
) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    for grouped in (False, True):
        told = [
            corrected_mean(
                [row[0] for row in each],
                [row[1] for row in each],
                clusters=[row[2] for row in each] if grouped else None,
                tuned=tuned,
            )
            for each in (rows, mixed)
        ]
        for one in (told[0].estimate, told[0].labels_only, told[0].judge_only):
            oracles.sound(one, (0.0, 1.0))
        assert told[0].estimate.low == pytest.approx(told[1].estimate.low, abs=1e-6)


def test_without_labels_nothing_is_known() -> None:
    told = corrected_mean([math.nan] * 30, [1.0] * 30)
    assert told.estimate.value is None
    assert told.estimate.caveat is Caveat.NO_LABELS
    assert told.judge_only.value == 1.0


def test_labels_on_everything_need_no_judge() -> None:
    labels = np.random.default_rng(5).random(30)
    told = corrected_mean(labels, 1 - labels)
    assert told.estimate == told.labels_only
    assert told.weight == 0.0


def test_few_labels_are_told() -> None:
    generator = np.random.default_rng(6)
    labels = np.where(np.arange(100) < 10, generator.random(100), math.nan)
    assert corrected_mean(labels, generator.random(100)).estimate.caveat is Caveat.FEW_LABELS


def test_refusals() -> None:
    with pytest.raises(ValueError, match="labels"):
        corrected_mean([1.0], [1.0, 0.0])
