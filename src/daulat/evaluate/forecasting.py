"""What more labels would do: an estimate, not a statement.

The strength of a test grows with the root of the number of examples, so the thresholds that would have passed
with more of them can be read off those at hand. Not here: the tests (`thresholds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from daulat.evaluate.thresholds import Pairs, Verdict, chosen_test

TIMES: Final = (1, 2, 4, 8)
_LIKELY: Final = 0.84
"""Standard deviations that make a test pass four times in five."""
_MOST: Final = 10**7


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of more labels, shared out as these were.

    Attributes:
        shares: the closed share that would be certified about, with so many times the labels.
        needed: times the labels with which anything would be certified, four times in five; None: no number
            would do, as far as these examples show.
    """

    shares: tuple[tuple[int, float], ...]
    needed: float | None


def forecast(
    train: Pairs, calibrate: Pairs, verdict: Verdict, keep: float, confidence: float, seed: int
) -> Forecast:
    """An estimate from the calibration examples."""
    test, alpha = chosen_test(train, calibrate, seed), 1 - confidence
    strengths, limit = test.strength(verdict.tested, keep), test.limit(keep, alpha)
    shares: list[tuple[int, float]] = []
    for times in TIMES:
        passed = np.append(strengths * np.sqrt(times) >= limit, False)
        last = int(np.argmin(passed))
        shares.append((times, calibrate.closed_share(verdict.tested[last - 1]) if last else 1.0))
    parting = (calibrate.closed_share(float(one)) < 1 for one in verdict.tested)
    first = float(strengths[next((at for at, parts in enumerate(parting) if parts), 0)])
    needed = ((limit + _LIKELY) / first) ** 2 if first > 0 else None
    return Forecast(tuple(shares), None if needed is None or needed > _MOST else max(1.0, needed))
