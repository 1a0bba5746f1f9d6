"""What may be looked at after every audit: against sums over all beginnings, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.statistics.anytime import BLOCK, SHARES, STAKES, Alarm, Kept

ALPHA = 0.05
AUDITS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0]), st.floats(0.1, 1)),
    max_size=130,
)


def watched(audits: list[tuple[float, float, float]], keep: float, floor: float) -> float:
    """What all gamblers own, each followed from its own beginning."""
    gone = [(keep * closed - routed) * floor / chance for routed, closed, chance in audits]
    owned = 0.0
    begun = (len(gone) - 1) // BLOCK + 1 if gone else 0
    for one in range(begun):
        own = 1 / ((one + 1) * (one + 2))
        for stake in STAKES:
            owned += own / len(STAKES) * math.prod(1 + stake * x for x in gone[one * BLOCK :])
    return owned + 1 / (begun + 1)


@settings(max_examples=60, deadline=None)
@given(AUDITS, st.sampled_from([0.9, 0.95, 1.0]))
def test_an_alarm_adds_up_all_beginnings(audits: list, keep: float) -> None:
    alarm, most = Alarm(keep, ALPHA, 0.1), 1.0
    for number, one in enumerate(audits, 1):
        alarm = alarm.after(*one)
        most = max(most, alarm.evidence)
        assert alarm.evidence == pytest.approx(watched(audits[:number], keep, 0.1))
    assert alarm.audits == len(audits)
    assert alarm.peak == most
    assert alarm.raised == (most >= 1 / ALPHA)


def test_false_alarms_are_as_rare_as_they_say() -> None:
    """Quality is just kept, at two propensities, and somebody looks after each of 1,200 audits."""
    rng, trials, raised = np.random.default_rng(0), 150, 0
    for _ in range(trials):
        alarm = Alarm(0.9, ALPHA, 0.2)
        closed = (rng.random(1200) < 0.8).astype(float).tolist()
        routed = (rng.random(1200) < 0.72).astype(float).tolist()
        chances = rng.choice([0.2, 0.5], 1200).tolist()
        taken = (rng.random(1200) < 0.35).tolist()
        for r, c, p, there in zip(routed, closed, chances, taken, strict=True):
            # Which of the two propensities a request has says nothing about its scores.
            if there:
                alarm = alarm.after(r, c, p)
        raised += alarm.raised
    assert scipy.stats.binom.sf(raised - 1, trials, ALPHA) > 1e-4


def test_an_alarm_is_raised_soon_after_quality_falls() -> None:
    rng = np.random.default_rng(1)
    late = []
    for _ in range(20):
        alarm = Alarm(0.95, ALPHA, 1.0)
        for _ in range(400):
            alarm = alarm.after(float(rng.random() < 0.82), float(rng.random() < 0.8), 1.0)
        if alarm.raised:
            continue
        while not alarm.raised and alarm.audits < 4000:
            alarm = alarm.after(float(rng.random() < 0.5), float(rng.random() < 0.8), 1.0)
        late.append(alarm.audits - 400)
    assert len(late) >= 16
    assert np.median(late) < 250, late
    assert alarm.after(1.0, 1.0, 1.0).raised, "it stays raised"


def test_kept_lies_in_its_interval_at_all_times() -> None:
    rng, trials, missed = np.random.default_rng(2), 60, 0
    for _ in range(trials):
        kept, out = Kept.nothing(0.25), False
        for number in range(300):
            closed = float(rng.random() < 0.8)
            routed = closed if rng.random() < 0.9 else 0.0  # 0.9 of the closed quality
            kept = kept.after(routed, closed, 0.25 if number % 3 else 0.5)
            if number % 10 == 9:
                low, high = kept.interval(ALPHA)
                out = out or not low <= 0.9 <= high
        missed += out
    assert scipy.stats.binom.sf(missed - 1, trials, ALPHA) > 1e-4


def test_an_interval_only_shrinks_and_comes_near() -> None:
    rng, kept, before = np.random.default_rng(3), Kept.nothing(1.0), (0.0, math.inf)
    assert kept.estimate is None
    assert kept.interval(ALPHA) == before
    for _ in range(3000):
        closed = float(rng.random() < 0.8)
        kept = kept.after(closed if rng.random() < 0.95 else 0.0, closed, 1.0)
        low, high = kept.interval(ALPHA)
        assert low >= before[0]
        assert high <= before[1]
        before = (low, high)
    assert kept.estimate == pytest.approx(0.95, abs=0.02)
    assert 0.9 < before[0] < kept.estimate < before[1] < 1.0
    wider = kept.interval(0.001)
    assert wider[0] <= before[0]
    assert wider[1] >= before[1]


def test_capitals_are_products() -> None:
    audits = [(1.0, 1.0, 0.5), (0.0, 1.0, 0.25), (0.5, 0.0, 1.0)]
    kept = Kept.nothing(0.25)
    for one in audits:
        kept = kept.after(*one)
    at = int(np.flatnonzero(SHARES == 1.2)[0])  # more than 1: losses are scaled down
    gains = [(r - 1.2 * c) * 0.25 / p for r, c, p in audits]
    expected = math.log(math.prod(1 + 0.4 * x / 1.2 for x in gains))
    assert kept.capitals[0, at, 1] == pytest.approx(expected)
    assert kept.capitals[1, at, 1] == pytest.approx(math.log(math.prod(1 - 0.4 * x for x in gains)))
    assert kept.estimate == pytest.approx((1 / 0.5 + 0.5) / (1 / 0.5 + 1 / 0.25))


@pytest.mark.parametrize("audit", [(1.1, 1, 0.5), (1, -0.1, 0.5), (1, 1, 0.05), (1, 1, 1.1)])
def test_audits_that_cannot_be_are_refused(audit: tuple[float, float, float]) -> None:
    for one in (Alarm(0.9, ALPHA, 0.1), Kept.nothing(0.1)):
        with pytest.raises(ValueError, match=r"Scores lie|propensity"):
            one.after(*audit)


def test_alarms_that_cannot_be_are_refused() -> None:
    for keep, alpha, floor in ((0, 0.05, 0.1), (1.2, 0.05, 0.1), (0.9, 0, 0.1), (0.9, 0.05, 0)):
        with pytest.raises(ValueError, match="lies"):
            Alarm(keep, alpha, floor)
