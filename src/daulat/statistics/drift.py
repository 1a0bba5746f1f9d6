"""Watching a loss as it comes in: is its mean still at most what was certified?

Each loss x in [0, 1] multiplies a bet's wealth by 1 + b (x - m), for several sizes b of the bet side by side.
If the mean loss, given all that came before, never exceeds m, none of these wealths is expected to grow, nor
is their average; so the chance that the average ever reaches 1 / delta is at most delta (Ville's inequality).
It may be looked at after every loss, and watched for ever. Source: I. Waudby-Smith, A. Ramdas, "Estimating
means of bounded random variables by betting", JRSS B 86 (2024), section 4; J. Ville, 1939.

Not here: bounds from a fixed number of examples (`bounds`), which losses are watched (`flow.audits`).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

_BETS: Final = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
"""Shares of the largest bet that cannot lose more than there is."""


class Drift:
    """A test that may be looked at whenever one likes.

    Args:
        most: the mean loss that is allowed, in [0, 1).
        delta: the chance of an alarm though the mean is never above it, in (0, 1).

    Attributes:
        losses: how many came.

    Raises:
        ValueError: out of these ranges.
    """

    def __init__(self, most: float, delta: float) -> None:
        if not 0 <= most < 1 or not 0 < delta < 1:
            raise ValueError("a mean loss is in [0, 1), a chance in (0, 1)")
        # A certificate may have seen no loss at all: then a first one alone is no proof of more.
        self._most = max(most, 1e-3)
        self._bets = _BETS / self._most
        self._log = np.zeros(len(_BETS))
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
        """How close to an alarm: 0 none at all, 1 alarm; by the logarithm of the average wealth."""
        highest = float(self._log.max())
        average = highest + math.log(float(np.exp(self._log - highest).mean()))
        return max(0.0, average / self._alarm)

    def add(self, loss: float) -> bool:
        """Take the next loss; whether there is an alarm now, or has been one.

        Raises:
            ValueError: it is not in [0, 1].
        """
        if not 0 <= loss <= 1:
            raise ValueError("a loss is in [0, 1]")
        self._log += np.log1p(self._bets * (loss - self._most))
        self._total += loss
        self.losses += 1
        self.alarmed = self.alarmed or self.evidence >= 1
        return self.alarmed
