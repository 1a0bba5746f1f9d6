"""How many examples a comparison needs, and what the examples at hand can show.

For Student's t test of paired differences, with the noncentral t distribution (J. Cohen, "Statistical Power
Analysis for the Behavioral Sciences", 2nd ed., 1988, 2.3). Clusters enter by the standard error that was
observed: it shrinks with the square root of the number of examples as long as more examples means more
clusters of the same kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from daulat.statistics.samples import Estimate, level
from daulat.statistics.special import normal_quantile, t_noncentral_cdf, t_quantile

MOST = 10_000_000
"""More examples than this are not advised: the difference is then as good as none."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What it takes to tell two endpoints apart.

    Attributes:
        difference: the difference in question, above zero.
        needed: examples that show it with the wanted power; None: more than 10 million, or it is zero.
        at_least: examples needed if the difference is as large as its interval allows.
        detectable: the smallest difference that the examples at hand show with that power; None: none of them
            does.
        n: examples at hand.
        power, confidence: what was asked for.
    """

    difference: float
    needed: int | None
    at_least: int | None
    detectable: float | None
    n: int
    power: float
    confidence: float


def power_of(difference: float, deviation: float, n: float, *, confidence: float = 0.95) -> float:
    """The chance that n paired examples show a difference, two-sided.

    Args:
        difference: true mean of the differences.
        deviation: their standard deviation, above zero.
        n: how many, at least 2.
    """
    freedom = n - 1
    limit = t_quantile(1 - level(confidence) / 2, freedom)
    shift = abs(difference) / deviation * math.sqrt(n)
    if shift > 30 + limit:  # beyond this the noncentral t is 1 to the last digit, and slow
        return 1.0
    over = 1 - t_noncentral_cdf(limit, freedom, shift)
    return over + t_noncentral_cdf(-limit, freedom, shift)


def examples_needed(
    difference: float, deviation: float, *, power: float = 0.8, confidence: float = 0.95
) -> int | None:
    """The fewest paired examples that show a difference with a given power; None: more than `MOST`.

    Raises:
        ValueError: power is not strictly between 0 and 1, or the deviation is negative.
    """
    level(power)
    if deviation < 0:
        raise ValueError("A standard deviation is not negative.")
    if difference == 0:
        return None
    if deviation == 0:
        return 2
    quantiles = normal_quantile(1 - level(confidence) / 2) + normal_quantile(power)
    start = (max(0.0, quantiles) * deviation / abs(difference)) ** 2
    if start > MOST:
        return None
    low, high = 1, max(2, math.ceil(start) + 8)
    while power_of(difference, deviation, high, confidence=confidence) < power:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of(difference, deviation, middle, confidence=confidence) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high if high <= MOST else None


def detectable(
    deviation: float, n: int, *, power: float = 0.8, confidence: float = 0.95
) -> float | None:
    """The smallest difference that n paired examples show with a given power; None: n is below 2."""
    level(power)
    if n < 2:
        return None
    if deviation == 0:
        return 0.0
    low, high = 0.0, deviation
    while power_of(high, deviation, n, confidence=confidence) < power:
        low, high = high, high * 2
    for _step in range(60):
        middle = (low + high) / 2
        enough = power_of(middle, deviation, n, confidence=confidence) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def advise(
    observed: Estimate, *, difference: float | None = None, power: float = 0.8
) -> Advice | None:
    """From an observed difference: examples that would show it, or a given one.

    What was observed is uncertain itself, so `needed` for the observed difference is a guess with a wide
    margin: `at_least` is its lower end, and there is no upper one while the interval holds zero. Better ask
    for the smallest difference that matters.

    Args:
        observed: of `paired.difference`.
        difference: the difference that matters; None: the one observed.

    Returns:
        None where there is no standard error to go by, or it is zero.
    """
    if observed.value is None or not observed.error or observed.n < 2:
        return None
    deviation = observed.error * math.sqrt(observed.n)
    wanted = abs(observed.value if difference is None else difference)
    most = max(abs(observed.low), abs(observed.high)) if difference is None else wanted
    confidence = observed.confidence
    return Advice(
        wanted,
        examples_needed(wanted, deviation, power=power, confidence=confidence),
        examples_needed(most, deviation, power=power, confidence=confidence),
        detectable(deviation, observed.n, power=power, confidence=confidence),
        observed.n,
        power,
        confidence,
    )
