"""Watching a loss as it comes in: is its mean still at most what was certified?

A loss x in [0, 1] multiplies what a gambler owns by 1 + b (x - m), for several sizes b of the bet side by
side. While the mean loss, given all that came before, never exceeds m, nobody is expected to get richer, so the
chance that all together ever own 1 / delta times what they began with is at most delta (Ville's inequality). It
may be looked at after every loss, and watched for ever.

A gambler who has lost for long because all was well is slow to notice a change. So fresh ones begin every
`BLOCK` losses, those of block j with 1 / ((j + 1) (j + 2)) of everything, which adds up to 1. Sources: I.
Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024), section 4;
J. Shin, A. Ramdas, A. Rinaldo, "E-detectors", 2023; J. Ville, 1939. Derivation: docs/statistics.md.

Not here: bounds from a fixed number of examples (`bounds`), which losses are watched (`flow.audits`).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

BLOCK: Final = 50
"""Losses between two beginnings."""
BETS: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Shares of the largest bet that cannot lose more than there is."""
LEAST: Final = 1e-3
"""A certificate may have seen no loss at all: then a first one alone is no proof of more."""
_RICHEST: Final = 1e200


class Drift:
    """A test that may be looked at whenever one likes.

    Args:
        most: the mean loss that is allowed, in [0, 1).
        delta: the chance of an alarm though the mean is never above it, in (0, 1).

    Attributes:
        losses: how many came.
        alarmed: there was an alarm; it stays.

    Raises:
        ValueError: out of these ranges.
    """

    def __init__(self, most: float, delta: float) -> None:
        if not 0 <= most < 1 or not 0 < delta < 1:
            raise ValueError("a mean loss is in [0, 1), a chance in (0, 1)")
        self._most = max(most, LEAST)
        self._bets = np.array(BETS) / self._most
        self._owned = np.zeros(len(BETS))
        self._together = 1.0
        self._alarm = math.log(1 / delta)
        self._total = 0.0
        self.losses = 0
        self.alarmed = False

    @property
    def mean(self) -> float | None:
        """Of all losses that came; None before the first."""
        return self._total / self.losses if self.losses else None

    @property
    def evidence(self) -> float:
        """How close to an alarm: 0 none at all, 1 alarm; by the logarithm of what all own together."""
        return max(0.0, math.log(self._together) / self._alarm)

    def add(self, loss: float) -> bool:
        """Take the next loss; whether there is an alarm now, or has been one.

        Raises:
            ValueError: it is not in [0, 1].
        """
        if not 0 <= loss <= 1:
            raise ValueError("a loss is in [0, 1]")
        block, within = divmod(self.losses, BLOCK)
        fresh = 0.0 if within else 1 / ((block + 1) * (block + 2))
        self._owned = np.minimum(
            (self._owned + fresh) * (1 + self._bets * (loss - self._most)), _RICHEST
        )
        # Those who have not begun yet own what is left.
        self._together = float(self._owned.mean()) + 1 / (block + 2)
        self._total += loss
        self.losses += 1
        self.alarmed = self.alarmed or self.evidence >= 1
        return self.alarmed
