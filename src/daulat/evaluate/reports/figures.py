"""How figures are written: a value with its interval, in a language's own way.

Every face of a report writes figures by this module, so that all say the same. Not here: what a figure is
called, and where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from daulat.evaluate.reports.words import Words
from daulat.statistics.samples import Estimate

SPACE: Final = "\u00a0"
"""Between a number and its unit, where no line may break."""
MINUS: Final = "\u2212"
DASH: Final = "\u2013"
PER: Final = 1000
"""Costs are told of so many answers: of one, they would be mostly zeros."""

_MOST_DECIMALS: Final = 9
Tone = Literal["", "good", "bad", "quiet"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure or a word in a table. `interval`: its interval; `tone`: how it is meant."""

    text: str
    interval: str = ""
    tone: Tone = ""

    def __str__(self) -> str:
        """On one line."""
        return f"{self.text} ({self.interval})" if self.interval else self.text


class Figures:
    """Writes figures in the language of `say`."""

    def __init__(self, say: Words) -> None:
        self.say = say

    def number(self, value: float, decimals: int = 0, *, signed: bool = False) -> str:
        """With the language's signs; `signed`: a plus where it is above zero."""
        text = f"{abs(value):,.{decimals}f}"
        text = text.translate(str.maketrans(",.", self.say.thousands + self.say.decimal))
        if not any(digit in "123456789" for digit in text):
            return text
        return (MINUS if value < 0 else "+" if signed else "") + text

    def significant(self, value: float, digits: int = 3) -> str:
        """With at least so many digits that say something."""
        return self.number(value, _decimals(value, digits))

    def money(self, value: float) -> str:
        """An amount: two decimals, more where it takes more for three digits; nothing is plainly 0."""
        return self.number(value, max(2, _decimals(value, 3)) if value else 0)

    def plain(self, value: float) -> str:
        """As short as it can be written: for ticks."""
        places = 0 if value == 0 else max(0, -math.floor(math.log10(abs(value)) + 1e-9))
        for more in (places, places + 1, places + 2):
            if math.isclose(round(value, more), value, rel_tol=1e-9):
                return self.number(value, more)
        return self.significant(value)

    def percent(self, share: float, decimals: int = 1) -> str:
        """A share of 1."""
        return self.number(100 * share, decimals) + SPACE + "%"

    def confidence(self, share: float) -> str:
        """A probability that no data make certain."""
        if share > 0.9995:
            return f"> {self.percent(0.999)}"
        return f"< {self.percent(0.001)}" if share < 0.0005 else self.percent(share)

    def percent_places(self, estimate: Estimate) -> int:
        """Decimals of percentages: one; two where one would hide the interval, or make nearly all all."""
        value = abs(estimate.value or 0.0)
        nearly = 0 < value < 0.0005 or 0.9995 < value < 1
        return 2 if nearly or 0 < estimate.high - estimate.low < 0.002 else 1

    # --- estimates: a value with its interval ------------------------------------------------------

    def quality(self, estimate: Estimate | None) -> Cell:
        """A mean score, as a percentage."""
        if estimate is None or estimate.value is None:
            return self.unknown()
        places = self.percent_places(estimate)
        ends = self._ends(estimate, lambda one: self.number(100 * one, places))
        return Cell(self.percent(estimate.value, places), ends)

    def points(self, estimate: Estimate | None) -> Cell:
        """A difference of scores or shares, in percentage points."""
        if estimate is None or estimate.value is None:
            return self.unknown()
        places = self.percent_places(estimate)
        ends = self._ends(estimate, lambda one: self.number(100 * one, places, signed=True))
        return Cell(self.number(100 * estimate.value, places, signed=True), ends)

    def amount(self, estimate: Estimate | None, scale: float = 1.0) -> Cell:
        """Money, seconds, tokens: no unit, three digits."""
        if estimate is None or estimate.value is None:
            return self.unknown()
        if estimate.value == 0 and math.isinf(estimate.high):
            # Of what never cost anything nothing bounds the mean, and nothing says that it is more.
            return Cell(self.number(0))
        largest = estimate.value or (estimate.high if math.isfinite(estimate.high) else 0.0)
        places = _decimals(scale * largest, 3)
        ends = self._ends(estimate, lambda one: self.number(scale * one, places))
        return Cell(self.number(scale * estimate.value, places), ends)

    def ratio(self, estimate: Estimate | None) -> Cell:
        """A share of something else: a percentage, or so many times as much."""
        if estimate is None or estimate.value is None:
            return self.unknown()
        if estimate.value >= 2:
            places = _decimals(estimate.value, 2)
            ends = self._ends(estimate, lambda one: self.number(one, places))
            return Cell(self.say("{n} times", n=self.number(estimate.value, places)), ends)
        places = _decimals(100 * estimate.value, 2)
        ends = self._ends(estimate, lambda one: self.number(100 * one, places))
        return Cell(self.percent(estimate.value, places), ends)

    def p_value(self, p: float) -> Cell:
        """Three decimals; below a thousandth no digits."""
        if p < 0.001:
            return Cell("<" + SPACE + self.number(0.001, 3))
        return Cell(self.number(p, 3))

    def unknown(self) -> Cell:
        """Of what is not known."""
        return Cell(DASH, tone="quiet")

    def counted(self, count: int) -> Cell:
        """A number of things."""
        return Cell(self.number(count), tone="" if count else "quiet")

    def _ends(self, estimate: Estimate, write: Callable[[float], str]) -> str:
        low, high = estimate.low, estimate.high
        if low == high:
            return ""
        if math.isinf(low) and math.isinf(high):
            return self.say("not bounded")
        if math.isinf(high):
            return self.say("{low} or more", low=write(low))
        return self.say("{low} to {high}", low=write(low), high=write(high))


def _decimals(value: float, digits: int) -> int:
    if value == 0 or not math.isfinite(value):
        return 0
    return min(_MOST_DECIMALS, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
