"""A test that may be looked at after every loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.statistics.drift import BETS, BLOCK, LEAST, Drift

LOSSES = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), max_size=120)


@given(LOSSES, st.floats(0, 0.9), st.floats(0.001, 0.5))
def test_the_evidence_is_what_all_gamblers_own(
    losses: list[float], most: float, delta: float
) -> None:
    drift = Drift(most, delta)
    allowed, alarmed = max(most, LEAST), False
    for end in range(1, len(losses) + 1):
        together = 0.0
        blocks = -(-end // BLOCK)
        for block in range(blocks):  # each beginning on its own, from its first loss on
            for bet in BETS:
                owned = 1 / ((block + 1) * (block + 2)) / len(BETS)
                for loss in losses[block * BLOCK : end]:
                    owned *= 1 + bet / allowed * (loss - allowed)
                together += owned
        together += 1 - sum(1 / ((j + 1) * (j + 2)) for j in range(blocks))
        alarmed = alarmed or together >= 1 / delta
        drift.add(losses[end - 1])
        told = max(0.0, math.log(together) / math.log(1 / delta))
        assert drift.evidence == pytest.approx(told, abs=1e-6)
    assert drift.losses == len(losses)
    assert drift.alarmed == alarmed or drift.evidence == pytest.approx(1, abs=1e-6)


def test_a_late_change_is_noticed_soon() -> None:
    random = np.random.default_rng(9)
    needed: list[int] = []
    for _ in range(20):
        drift = Drift(0.1, 0.05)
        for loss in random.random(2000) < 0.02:
            drift.add(float(loss))
        assert not drift.alarmed
        needed.append(0)
        while not drift.add(float(random.random() < 0.4)):
            needed[-1] += 1
    assert np.median(needed) < 100


def test_false_alarms_are_as_rare_as_promised() -> None:
    random = np.random.default_rng(7)
    alarms = 0
    for _ in range(300):
        drift = Drift(0.1, 0.1)
        alarms += any(drift.add(float(loss)) for loss in random.random(400) < 0.1)
    # 0.1 of 300, and four standard deviations of a binomial.
    assert alarms <= 30 + 4 * math.sqrt(300 * 0.1 * 0.9)


def test_a_change_is_noticed_soon() -> None:
    random = np.random.default_rng(8)
    needed: list[int] = []
    for _ in range(50):
        drift = Drift(0.05, 0.05)
        for loss in random.random(100) < 0.05:
            drift.add(float(loss))
        needed.append(0)
        while not drift.add(float(random.random() < 0.25)):
            needed[-1] += 1
    assert np.median(needed) < 60


def test_an_alarm_stays() -> None:
    drift = Drift(0.05, 0.05)
    while not drift.add(1.0):
        pass
    assert drift.add(0.0)
    assert drift.alarmed


def test_nothing_came_nothing_is_known() -> None:
    assert Drift(0.0, 0.05).mean is None
    assert Drift(0.0, 0.05).evidence == 0


@pytest.mark.parametrize(("most", "delta"), [(1.0, 0.1), (-0.1, 0.1), (0.1, 0.0), (math.nan, 0.1)])
def test_bounds(most: float, delta: float) -> None:
    with pytest.raises(ValueError, match="mean loss"):
        Drift(most, delta)
    with pytest.raises(ValueError, match="a loss"):
        Drift(0.1, 0.1).add(math.nan)
