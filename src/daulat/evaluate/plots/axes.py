"""Ranges and ticks: which numbers an axis spans, and at which of them it is marked.

Ticks are 1, 2, 2.5 or 5 times a power of ten, on a logarithmic axis 1, 2 and 5 of each decade or the decades
alone; as many as fit without their labels touching. Not here: drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from daulat.evaluate.plots.charts import Axis, Bar
from daulat.evaluate.plots.svg import width_of

DECADES: Final = 30.0
"""Figures that differ by more than this factor stand on a logarithmic axis, where the axis may be one."""

_WIDEST: Final = 1e12
"""No logarithmic axis spans more: what is smaller stands at its end."""
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_PAD: Final = 0.04
_GAP: Final = 14.0
"""Pixels between two labels, at least."""
_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers to pixels.

    Attributes:
        low, high: numbers at the ends, low < high.
        start, end: pixels there; `start` may be greater (upwards).
        logarithmic: equal ratios are equally far apart; low is then above zero.
        nought: pixel of zero, which a logarithmic axis has no place for, beside its lower end.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False
    nought: float | None = None

    def __call__(self, value: float) -> float:
        """The pixel of a number; of one beyond the range the nearest end."""
        if self.nought is not None and value < self.low:
            return self.nought
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def finite(bars: Iterable[Bar]) -> list[float]:
    """All numbers of the bars that have a place."""
    found = [end for bar in bars if bar.value is not None for end in (bar.low, bar.value, bar.high)]
    return [one for one in found if math.isfinite(one)]


def span(bars: Sequence[Bar], axis: Axis, start: float, end: float) -> Scale:
    """The scale for these bars between two pixels."""
    if spans_decades(bars, axis):
        return _logarithmic(bars, start, end)
    low, high = _linear(finite(bars), axis)
    return Scale(low, high, start, end)


def spans_decades(bars: Sequence[Bar], axis: Axis) -> bool:
    """Whether the axis is logarithmic: it may be, and the figures differ enough."""
    values = _above_zero(bar.value for bar in bars)
    return axis.logarithmic and bool(values) and max(values) / min(values) > DECADES


def _above_zero(found: Iterable[float | None]) -> list[float]:
    return [one for one in found if one is not None and one > 0]


def _logarithmic(bars: Sequence[Bar], start: float, end: float) -> Scale:
    # An interval may reach down to nearly nothing: it is cut a decade below the smallest value.
    ends, values = _above_zero(finite(bars)), _above_zero(bar.value for bar in bars)
    high = max(ends) * 1.15
    low = max(min(ends) / 1.15, min(values) / 11.5, high / _WIDEST)
    nought = any(bar.value == 0 for bar in bars)
    gutter = (end - start) * 0.08 if nought else 0.0
    return Scale(low, high, start + gutter, end, True, start if nought else None)


def _linear(found: list[float], axis: Axis) -> tuple[float, float]:
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if axis.zero:
        low, high = min(low, 0.0, -axis.band), max(high, 0.0, axis.band)
    pad = _PAD * (high - low) or max(abs(high) * 0.1, 1e-6)
    step = _step(high - low + 2 * pad, 6)
    low, high = math.floor((low - pad) / step) * step, math.ceil((high + pad) / step) * step
    low = low if axis.least is None else max(low, axis.least)
    high = high if axis.most is None else min(high, axis.most)
    return (low, high) if low < high else (low - step, high + step)


def _step(width: float, count: int) -> float:
    """The smallest round step that cuts a width into at most so many."""
    rough = width / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next((one * power for one in _STEPS if one * power >= rough * (1 - 1e-9)), 10 * power)


def ticks(
    scale: Scale, axis: Axis, size: float, room: tuple[float, float] | None = None
) -> tuple[float, ...]:
    """Numbers to mark, rising, so that their labels do not touch.

    Args:
        size: of the labels' letters, in pixels.
        room: pixels between which all labels stay; None: there is no such limit.
    """
    fewest: tuple[float, ...] = ()
    for every in _candidates(scale):
        found = tuple(one for one in every if _inside(one, scale, axis, size, room))
        if _fits(found, scale, axis, size):
            return found
        fewest = found[:1]
    return fewest


def _inside(
    value: float, scale: Scale, axis: Axis, size: float, room: tuple[float, float] | None
) -> bool:
    half = width_of(axis.write(value), size) / 2
    return room is None or room[0] + half <= scale(value) <= room[1] - half


def _candidates(scale: Scale) -> Iterable[tuple[float, ...]]:
    if scale.logarithmic:
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = _of_decades(scale, factors)
            if len(found) > 1:
                yield found
        for every in (2, 3, 4, 6, 8):
            yield _of_decades(scale, (1,))[::every]
        return
    for count in range(_MOST, 0, -1):
        yield _rounds(scale.low, scale.high, _step(scale.high - scale.low, count))


def _of_decades(scale: Scale, factors: Sequence[float]) -> tuple[float, ...]:
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    found = (factor * 10.0**power for power in range(first, last + 1) for factor in factors)
    return tuple(one for one in found if scale.low <= one <= scale.high)


def _rounds(low: float, high: float, step: float) -> tuple[float, ...]:
    """The multiples of a step from low to high."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(number * step for number in range(first, last + 1))


def _fits(found: tuple[float, ...], scale: Scale, axis: Axis, size: float) -> bool:
    """Whether no label touches the next one, and each says another number."""
    texts = [axis.write(one) for one in found]
    if len(set(texts)) < len(texts) or not found:
        return False
    upright = scale.start > scale.end
    places = [scale(one) for one in found]
    if scale.nought is not None:
        places, texts = [scale.nought, *places], [axis.write(0.0), *texts]
    halves = [size * 0.75 if upright else width_of(text, size) / 2 for text in texts]
    gap = 0.0 if upright else _GAP
    return all(
        abs(places[i + 1] - places[i]) >= halves[i] + halves[i + 1] + gap
        for i in range(len(found) - 1 + int(scale.nought is not None))
    )
