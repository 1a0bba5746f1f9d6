"""What judges prefer: AlpacaEval's own figures, both orders, and strengths of several endpoints."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import oracles
import pytest
import scipy.optimize
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.statistics.bradley_terry import bradley_terry
from daulat.statistics.intervals import score
from daulat.statistics.length_control import length_controlled
from daulat.statistics.preferences import both_orders, win_rate
from daulat.statistics.samples import Caveat

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("DAULAT_DATA", ROOT.parent / "shared" / "data")) / "alpaca_eval"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="DAULAT_DATA has no alpaca_eval")

PREFERENCES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
PAIRS = st.lists(st.tuples(PREFERENCES, PREFERENCES, st.integers(0, 5)), max_size=25)

ANNOTATED = {
    # annotator, and from its leaderboard: win rate, standard error, wins, losses, ties, mean length
    "Mistral-7B-Instruct-v0.2": ("alpaca_eval_cot_gpt4_turbo_fn", 15.53, 1.28, 125, 680, 0, 1676),
    "Mixtral-8x7B-Instruct-v0.1": ("alpaca_eval_gpt4_turbo_fn", 22.80, 1.48, 183, 621, 1, 1465),
}
WEIGHTED = {
    "claude-2.1": (15.73, 1.12),
    "vicuna-13b-v1.5": (6.72, 0.77),
    "text_davinci_001": (2.76, 0.52),
    "phi-2": (2.35, 0.45),
    "gpt4_1106_preview": (50.0, 0.0),
}


@needs_data
@pytest.mark.parametrize("model", ANNOTATED)
def test_alpaca_evals_leaderboard_from_its_annotations(model: str) -> None:
    annotator, rate, error, wins, losses, ties, length = ANNOTATED[model]
    rows = _annotations(model)
    assert {row["annotator"] for row in rows} == {annotator}
    told = win_rate(_preferences(rows))
    assert round(100 * (told.rate.value or 0), 2) == rate
    assert round(100 * (told.rate.error or 0), 2) == error
    assert told.rate.error == pytest.approx(_alpaca_error(_preferences(rows)), rel=1e-9)
    assert (told.wins, told.losses, told.ties) == (wins, losses, ties)
    assert int(np.mean([len(row["output_2"]) for row in rows])) == length


@needs_data
@pytest.mark.parametrize("model", WEIGHTED)
def test_alpaca_evals_weighted_leaderboard_from_its_preferences(model: str) -> None:
    with gzip.open(DATA / "alpaca_eval2_pref_vs_gpt4turbo.csv.gz", "rt", encoding="utf-8") as file:
        column = [float(row[model] or "nan") for row in csv.DictReader(file)]
    rate = win_rate(column).rate
    assert (round(100 * (rate.value or 0), 2), round(100 * (rate.error or 0), 2)) == WEIGHTED[model]


@needs_data
@pytest.mark.parametrize(
    ("model", "rate"), [(name, one) for name, one in zip(ANNOTATED, (19.8, 33.2), strict=True)]
)
def test_lengths_explain_a_part_of_the_losses(model: str, rate: float) -> None:
    rows = _annotations(model)
    lengths = [[len(row[name]) for row in rows] for name in ("output_2", "output_1")]
    told = length_controlled(_preferences(rows), *lengths)
    assert 100 * (told.value or 0) == pytest.approx(rate, abs=0.1)


def _annotations(model: str) -> list[dict[str, str]]:
    with gzip.open(DATA / model / "alpaca_eval_gpt4_turbo_fn" / "annotations.json.gz") as file:
        return json.load(file)


def _preferences(rows: list[dict[str, str]]) -> list[float]:
    """AlpacaEval writes 1 for the baseline, 2 for the model, 1.5 or 0 for a tie."""
    told = [float(row["preference"]) for row in rows]
    return [0.5 if one == 0 else one - 1 for one in told]


def _alpaca_error(preferences: list[float]) -> float:
    """Its `standard_error`: of the mean, with n - 1."""
    return float(np.std(preferences, ddof=1)) / math.sqrt(len(preferences))


@settings(deadline=None)
@given(st.lists(PREFERENCES, max_size=30))
def test_a_win_rate_counts_ties_half(preferences: list[float]) -> None:
    told = win_rate(preferences)
    oracles.sound(told.rate, (0.0, 1.0))
    assert told.wins + told.ties + told.losses == len(preferences)
    if preferences:
        assert told.discrete == (told.wins + told.ties / 2) / len(preferences)
        assert told.rate.value == pytest.approx(np.mean(preferences))


def test_a_judge_that_takes_the_first_is_found_out() -> None:
    told = both_orders([1] * 12, [0] * 12)
    assert (told.bias.value, told.rate.rate.value, told.rate.ties) == (0.5, 0.5, 12)
    assert (told.inconsistent.value, told.for_first, told.for_second) == (1.0, 12, 0)


def test_both_orders_by_hand() -> None:
    told = both_orders([1, 1, 0, 0.5, math.nan], [1, 0, 1, 0, 1])
    assert told.rate.rate.n == 4
    assert told.rate.rate.value == pytest.approx((1 + 0.5 + 0.5 + 0.25) / 4)
    assert told.bias.value == pytest.approx((0 + 0.5 - 0.5 + 0.25) / 4)
    assert (told.inconsistent.value, told.for_first, told.for_second) == (0.5, 1, 1)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_the_other_endpoint_has_the_other_rate_and_the_same_bias(
    rows: list[tuple[float, float, int]],
) -> None:
    first, second, clusters = ([row[n] for row in rows] for n in range(3))
    one = both_orders(first, second, clusters=clusters)
    swapped = [1 - late for late in second], [1 - early for early in first]
    other = both_orders(*swapped, clusters=clusters)
    oracles.sound(one.bias, (-0.5, 0.5))
    oracles.sound(one.inconsistent, (0.0, 1.0))
    assert one.bias.low == pytest.approx(other.bias.low, abs=1e-9)
    assert one.rate.rate.low == pytest.approx(1 - other.rate.rate.high, abs=1e-6)
    assert (one.for_first, one.for_second) == (other.for_first, other.for_second)


# --- several endpoints ----------------------------------------------------------------------------


def _games(n: int, seed: int = 0) -> tuple[list[str], list[str], list[float]]:
    generator = np.random.default_rng(seed)
    strengths = np.array([1.0, 0.3, -0.4, -0.9])
    left = generator.integers(0, 4, n)
    right = (left + generator.integers(1, 4, n)) % 4
    chance = 1 / (1 + np.exp(strengths[right] - strengths[left]))
    told = np.where(generator.random(n) < 0.1, 0.5, (generator.random(n) < chance) * 1.0)
    names = np.array(["apple", "berry", "cedar", "daisy"])
    return list(names[left]), list(names[right]), list(told)


def test_strengths_are_those_of_a_logistic_regression_with_robust_errors() -> None:
    left, right, told = _games(400)
    rows = bradley_terry(left, right, told)
    names = sorted({*left, *right})
    design = np.array(
        [
            [(one == name) - (other == name) for name in names[1:]]
            for one, other in zip(left, right, strict=True)
        ],
        float,
    )
    fitted = sm.GLM(told, design, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": np.arange(400)}
    )
    raw = np.r_[0.0, fitted.params]
    ours = {row.name: row.strength for row in rows}
    assert [ours[name].value for name in names] == pytest.approx(raw - raw.mean(), abs=1e-6)
    centre = np.eye(4) - 0.25
    covariance = centre @ np.pad(fitted.cov_params(), ((1, 0), (1, 0))) @ centre
    assert [ours[name].error for name in names] == pytest.approx(
        np.sqrt(np.diag(covariance)), rel=1e-6
    )


def test_the_fit_is_the_most_likely_one() -> None:
    left, right, told = _games(90, seed=1)
    rows = {row.name: row.strength.value for row in bradley_terry(left, right, told)}
    names = sorted(rows)
    first, second = ([names.index(one) for one in side] for side in (left, right))

    def cost(strengths: np.ndarray) -> float:
        gap = strengths[first] - strengths[second]
        return float(np.sum(np.logaddexp(0, gap) - np.array(told) * gap) + strengths.sum() ** 2)

    best = scipy.optimize.minimize(cost, np.zeros(len(names)), tol=1e-10).x
    assert [rows[name] for name in names] == pytest.approx(best, abs=1e-4)


def test_strengths_know_no_order_and_no_sides() -> None:
    left, right, told = _games(60, seed=2)
    swapped = bradley_terry(right[::-1], left[::-1], [1 - one for one in reversed(told)])
    for one, other in zip(bradley_terry(left, right, told), swapped, strict=True):
        assert one.name == other.name
        assert one.strength.value == pytest.approx(other.strength.value, abs=1e-8)
        assert one.strength.error == pytest.approx(other.strength.error, abs=1e-8)
        assert one.rate == pytest.approx(other.rate)


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        (["a"], ["b"], [1.0]),
        (["a"] * 30, ["b"] * 30, [1.0] * 30),
        (["a", "b", "a"], ["b", "c", "c"], [1.0, 1.0, 1.0]),
        (["a", "c"], ["b", "d"], [0.5, 1.0]),
    ],
)
def test_who_never_loses_is_finite_and_told(
    left: list[str], right: list[str], told: list[float]
) -> None:
    rows = bradley_terry(left, right, told)
    assert rows[0].name == ("c" if len(left) == 2 else "a")
    for row in rows:
        oracles.sound(row.strength, (-math.inf, math.inf))
        assert row.strength.caveat is Caveat.SEPARATED
        assert math.isfinite(row.strength.low)
        assert 0 < row.rate < 1


def test_nothing_judged_ranks_nothing() -> None:
    assert bradley_terry([], [], []) == ()
    assert bradley_terry(["a"], ["b"], [math.nan]) == ()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="itself"):
        bradley_terry(["a"], ["a"], [1.0])
    with pytest.raises(ValueError, match="outside"):
        bradley_terry(["a"], ["b"], [2.0])
    with pytest.raises(ValueError, match="length"):
        bradley_terry(["a"], ["b", "c"], [1.0])
    with pytest.raises(ValueError, match="outside"):
        win_rate([1.2])


# --- length ---------------------------------------------------------------------------------------


def test_length_control_is_a_logistic_regression() -> None:
    generator = np.random.default_rng(3)
    own, other, hard = generator.gamma(3, 300, (3, 400))
    chance = 1 / (1 + np.exp(-(-0.5 + 0.002 * (own - other) + 0.001 * hard)))
    told = (generator.random(400) < chance) * 1.0
    apart = own - other
    design = np.stack([np.ones(400), np.tanh(apart / apart.std(ddof=1)), hard], axis=1)
    fitted = sm.GLM(told, design, family=sm.families.Binomial()).fit()
    design[:, 1] = 0
    ours = length_controlled(told, own, other, difficulty=hard)
    assert ours.value == pytest.approx(fitted.predict(design).mean(), abs=1e-4)


def test_a_judge_of_length_alone_sees_equals() -> None:
    generator = np.random.default_rng(4)
    own, other = generator.gamma(3, 300, (2, 3000))
    apart = np.tanh((own + 400 - other) / (own - other).std())
    told = (generator.random(3000) < 1 / (1 + np.exp(-2 * apart))) * 1.0
    raw, fair = score(told), length_controlled(told, own + 400, other)
    assert raw.low > 0.6
    assert 0.5 in fair
    assert fair.high - fair.low < 0.06


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PREFERENCES, st.integers(0, 900), st.integers(0, 900)), max_size=25))
def test_length_control_is_sound_and_mirrors(rows: list[tuple[float, int, int]]) -> None:
    told, own, other = ([row[n] for row in rows] for n in range(3))
    one = length_controlled(told, own, other)
    mirrored = length_controlled([1 - each for each in told], other, own)
    oracles.sound(one, (0.0, 1.0))
    if one.value is not None:
        assert one.value == pytest.approx(1 - (mirrored.value or 0), abs=1e-6)
        assert one.low == pytest.approx(1 - mirrored.high, abs=1e-6)
