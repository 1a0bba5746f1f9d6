"""Tests and intervals that may be looked at after every audit, for as long as one likes.

An audit runs both endpoints on a request and scores both answers. Requests are audited at random, each with a
probability, its propensity, that is known before and at least `floor`. With d = score(routed) - keep *
score(closed), the product of 1 + stake * floor / propensity * d over the audits is what a gambler owns who bets
that quality is kept, and with a minus sign one who bets that it is not. A gambler whose bet is wrong gets 1 /
alpha times rich with probability alpha at most, ever (J. Ville, 1939; I. Waudby-Smith, A. Ramdas, JRSS B 86
(2024); weights: N. Karampatziakis, P. Mineiro, A. Ramdas, "Off-policy confidence sequences", ICML 2021).

`Alarm` is for quality that was kept for long and then is not: a fresh gambler begins every `BLOCK` audits, so
that what was won or lost before does not weigh on it (J. Shin, A. Ramdas, A. Rinaldo, "E-detectors", 2023, with
weights that make the chance of any false alarm alpha). `Kept` says between which shares the kept quality lies.

Derivations and assumptions: docs/statistics.md. Not here: which requests are audited, what an alarm does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from daulat.statistics.special import FloatArray

BLOCK: Final = 50
"""Audits between two beginnings."""
STAKES: Final = (0.8, 0.4, 0.2, 0.1, 0.05)
"""Shares of what is owned that an alarm's gamblers stake; their capitals are averaged."""
_FINE_STAKES: Final = (0.9, 0.4, 0.18, 0.08, 0.035, 0.015)
_MOST: Final = 1e200


@dataclass(frozen=True, slots=True)
class Alarm:
    """Whether quality has fallen below what is to be kept.

    Attributes:
        keep: the share of the closed quality that is to be kept, in (0, 1].
        alpha: the probability that the alarm is ever raised while quality is kept.
        floor: the least propensity.
        audits: so far.
        capitals: what the gamblers of each stake own, those who have begun.
        evidence: what all own together, those who have not begun too; 1 at first.
        peak: the most that ever was.
    """

    keep: float
    alpha: float
    floor: float
    audits: int = 0
    capitals: tuple[float, ...] = (0.0,) * len(STAKES)
    evidence: float = 1.0
    peak: float = 1.0

    def __post_init__(self) -> None:
        _check(self.alpha, self.floor)
        if not 0 < self.keep <= 1:
            raise ValueError(f"A share to keep lies in (0, 1], and {self.keep} does not.")

    @property
    def raised(self) -> bool:
        """Whether it was raised; it stays so."""
        return self.peak >= 1 / self.alpha

    def after(self, routed: float, closed: float, propensity: float) -> Alarm:
        """The alarm after one more audit.

        Args:
            routed: the score of the answer that the router chose, in [0, 1].
            closed: the score of the closed endpoint's answer.
            propensity: with which the request was audited.

        Raises:
            ValueError: one of them is out of its bounds.
        """
        _check_audit(routed, closed, propensity, self.floor)
        lost = (self.keep * closed - routed) * self.floor / propensity
        begun, begins = self.audits // BLOCK, self.audits % BLOCK == 0
        fresh = 1 / ((begun + 1) * (begun + 2)) if begins else 0.0
        capitals = tuple(
            min(_MOST, (owned + fresh) * (1 + stake * lost))
            for owned, stake in zip(self.capitals, STAKES, strict=True)
        )
        evidence = sum(capitals) / len(STAKES) + 1 / (begun + 2)
        return replace(
            self,
            audits=self.audits + 1,
            capitals=capitals,
            evidence=evidence,
            peak=max(self.peak, evidence),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What share of the closed quality is kept, from audits.

    Attributes:
        floor: the least propensity.
        audits: so far.
        sums: weighted scores: routed, closed.
        capitals: float64 [2, shares, stakes]: what gamblers own who bet that more, or less, than each of
            the shares is kept; logarithms.
        peaks: float64 [2, shares]: the most that those of each share owned, ever; logarithms.
    """

    floor: float
    audits: int
    sums: tuple[float, float]
    capitals: FloatArray
    peaks: FloatArray

    @staticmethod
    def nothing(floor: float) -> Kept:
        """Before the first audit.

        Raises:
            ValueError: the floor is not in (0, 1].
        """
        _check(0.5, floor)
        shape = (2, len(SHARES))
        return Kept(floor, 0, (0.0, 0.0), np.zeros((*shape, len(_FINE_STAKES))), np.zeros(shape))

    def after(self, routed: float, closed: float, propensity: float) -> Kept:
        """The same after one more audit; see `Alarm.after`.

        Raises:
            ValueError: a score, or the propensity, is out of its bounds.
        """
        _check_audit(routed, closed, propensity, self.floor)
        gain = (routed - SHARES * closed) * self.floor / propensity
        # Where more than all can be kept, a loss can be more than 1.
        gains = np.stack([gain / np.maximum(1.0, SHARES), -gain])
        capitals = self.capitals + np.log1p(gains[:, :, None] * np.array(_FINE_STAKES))
        together = np.logaddexp.reduce(capitals, axis=2) - np.log(len(_FINE_STAKES))
        sums = (self.sums[0] + routed / propensity, self.sums[1] + closed / propensity)
        return Kept(self.floor, self.audits + 1, sums, capitals, np.maximum(self.peaks, together))

    @property
    def estimate(self) -> float | None:
        """The ratio of the weighted means; None: nothing was right yet."""
        return self.sums[0] / self.sums[1] if self.sums[1] > 0 else None

    def interval(self, alpha: float) -> tuple[float, float]:
        """Between which shares (of `SHARES`) it lies, now and at all audits, but with probability alpha.

        Infinite above: more than the largest of them may be kept.
        """
        rich = self.peaks >= np.log(2 / alpha)
        low = max((share for share, more in zip(SHARES, rich[0], strict=True) if more), default=0.0)
        most = (share for share, less in zip(SHARES, rich[1], strict=True) if less)
        return float(low), float(min(most, default=np.inf))


SHARES: Final = np.round(np.arange(0.0, 1.5001, 0.005), 3)


def _check(alpha: float, floor: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"A probability of error lies between 0 and 1, and {alpha} does not.")
    if not 0 < floor <= 1:
        raise ValueError(f"A propensity lies in (0, 1], and {floor} does not.")


def _check_audit(routed: float, closed: float, propensity: float, floor: float) -> None:
    if not (0 <= routed <= 1 and 0 <= closed <= 1):
        raise ValueError(f"Scores lie in [0, 1]; these are {routed} and {closed}.")
    if not floor <= propensity <= 1:
        raise ValueError(f"The propensity {propensity} is not between {floor} and 1.")
