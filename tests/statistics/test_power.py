"""Sample sizes: against statsmodels, and against what happens."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.power import TTestPower

from daulat.statistics.paired import difference
from daulat.statistics.power import advise, detectable, examples_needed, power_of


@pytest.mark.parametrize("effect", [0.05, 0.2, 0.8, 3.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.99])
def test_needed_examples_are_those_of_statsmodels(effect: float, power: float) -> None:
    needed = examples_needed(effect * 0.4, 0.4, power=power)
    assert needed is not None
    assert power_of(effect, 1.0, needed) >= power
    assert needed == 2 or power_of(effect, 1.0, needed - 1) < power
    theirs = TTestPower()
    assert power_of(effect, 1.0, needed) == pytest.approx(
        theirs.power(effect, needed, 0.05, df=None, alternative="two-sided"), abs=1e-6
    )


@pytest.mark.parametrize("n", [2, 5, 50, 5000])
def test_the_detectable_difference_needs_just_that_many(n: int) -> None:
    smallest = detectable(0.5, n, power=0.9)
    assert smallest is not None
    assert power_of(smallest, 0.5, n) == pytest.approx(0.9, abs=1e-6)


def test_the_promised_power_is_there() -> None:
    generator = np.random.default_rng(1)
    needed = examples_needed(0.1, 0.5, power=0.8)
    assert needed is not None
    drawn = generator.normal(0.1, 0.5, (4000, needed))
    found = float((scipy.stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean())
    assert found == pytest.approx(0.8, abs=0.025)


def test_advice_goes_by_what_was_observed() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.random(200) < 0.7, generator.random(200) < 0.6
    observed = difference(a * 1.0, b * 1.0)
    told, wanted = advise(observed), advise(observed, difference=0.02)
    assert told is not None
    assert wanted is not None
    assert told.needed is not None
    assert told.at_least is not None
    assert told.at_least <= told.needed
    assert wanted.needed == wanted.at_least
    assert (wanted.needed or 0) > 5000
    assert (told.detectable or 0) == pytest.approx(
        0.02 * np.sqrt((wanted.needed or 0) / 200), rel=0.02
    )


def test_clusters_ask_for_more() -> None:
    generator = np.random.default_rng(3)
    documents = np.repeat(np.arange(40), 10)
    a = (generator.random(40)[documents] + generator.random(400)) / 2
    b = np.full(400, 0.45)
    alone = advise(difference(a, b), difference=0.03)
    together = advise(difference(a, b, clusters=documents), difference=0.03)
    assert alone is not None
    assert together is not None
    assert (together.needed or 0) > 2 * (alone.needed or 0)


def test_nothing_to_go_by_gives_no_advice() -> None:
    assert advise(difference([], [])) is None
    assert advise(difference([0.5], [0.5])) is None
    assert advise(difference([0.5] * 9, [0.4] * 9)) is None
    assert examples_needed(0.0, 1.0) is None
    assert examples_needed(1e-9, 1.0) is None
    assert examples_needed(0.1, 0.0) == 2
    assert detectable(0.5, 1) is None
    assert detectable(0.0, 10) == 0.0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="negative"):
        examples_needed(0.1, -1.0)
    with pytest.raises(ValueError, match="between"):
        examples_needed(0.1, 1.0, power=1.0)
