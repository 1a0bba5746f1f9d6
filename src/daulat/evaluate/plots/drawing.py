"""Draws charts as SVG elements that stand in a page, or alone.

Letters have the same size in every width: a page shows the drawing that fits it. Every drawing has a title and
a description in words for those who do not see it. Not here: ranges and ticks (`axes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from daulat.evaluate.plots.axes import Scale, span, ticks
from daulat.evaluate.plots.charts import Axis, Bar, Chart, Intervals, Panels, Scatter
from daulat.evaluate.plots.scatter import scattered
from daulat.evaluate.plots.style import RADIUS, SIZE, SMALL, STYLE
from daulat.evaluate.plots.svg import clean, element, shortened, text, width_of

WIDE: Final = 720.0
NARROW: Final = 328.0
"""Pixels: of a page, and of a small telephone less its edges."""

_LINE: Final = 26.0
_TALL: Final = 44.0
_HEAD: Final = 26.0
_FOOT: Final = 26.0
_EDGE: Final = 8.0
_INSET: Final = 18.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """Markup and how high it is."""

    markup: str
    height: float


def draw(chart: Chart, width: float, name: str) -> str:
    """The chart as one SVG element.

    Args:
        width: pixels; `WIDE` and `NARROW` are what pages use.
        name: no other drawing of the page has it.
    """
    if isinstance(chart, Intervals):
        drawn, told = _intervals(chart, width), _told(chart.bars)
    elif isinstance(chart, Panels):
        drawn = _panels(chart, width)
        told = " ".join(f"{one.title}: {_told(one.bars)}" for one in chart.panels)
    else:
        found = scattered(chart, width)
        drawn, told = Drawn(*found), _told_both(chart)
    head = element("title", clean(chart.title), id=f"{name}-t")
    head += element("desc", clean(told), id=f"{name}-d")
    return element(
        "svg",
        head + drawn.markup,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {drawn.height:g}",
        width=width,
        height=drawn.height,
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
        font_family="system-ui,sans-serif",
    )


def _told(bars: Sequence[Bar]) -> str:
    return "; ".join(
        f"{bar.group + ', ' if bar.group else ''}{bar.label}: {bar.text}" for bar in bars
    )


def _told_both(chart: Scatter) -> str:
    return "; ".join(
        f"{one.label}: {chart.across.title} {one.across.text}, {chart.up.title} {one.up.text}"
        for one in chart.spots
    )


# --- one figure a line ----------------------------------------------------------------------------


def _intervals(chart: Intervals, width: float) -> Drawn:
    wide = width >= 560
    names = [name for bar in chart.bars for name in (bar.label, bar.group)]
    labels = max((width_of(name, SIZE) for name in names), default=0.0)
    figures = max((width_of(bar.text, SMALL) for bar in chart.bars), default=0.0)
    left = min(labels, 0.32 * width) + 16 if wide else _EDGE
    right = width - (min(figures, 0.32 * width) + 14 if wide else _EDGE)
    scale = span(chart.bars, chart.axis, left + _INSET, right - _INSET)
    apart = not wide and any(_crowded(bar, width) for bar in chart.bars)
    lines, y, group = list[str](), 4.0, ""
    for bar in chart.bars:
        if bar.group != group:
            group = bar.group
            lines.append(_heading(group, y, width))
            y += _HEAD
        if wide:
            lines.append(_wide_line(bar, y, scale, left, width))
        else:
            lines.append(_tall_line(bar, y, scale, width, apart))
        y += _LINE if wide else _TALL + 16 * apart
    ground = _ground(scale, chart.axis, 2.0, y + 2, (0.0, width))
    return Drawn(ground + "".join(lines), y + _FOOT)


def _crowded(bar: Bar, width: float) -> bool:
    """Whether name and figure do not fit on one line."""
    return width_of(bar.label, SIZE) + width_of(bar.text, SMALL) + 16 > width


def _heading(words: str, y: float, width: float) -> str:
    shown = shortened(words, SIZE * 1.08, width - 4)
    return text(shown, 2.0, y + 17, SIZE, style=STYLE["ink"], font_weight="600")


def _wide_line(bar: Bar, y: float, scale: Scale, left: float, width: float) -> str:
    """Name, whisker, figure beside each other."""
    middle = y + _LINE / 2
    end = max(scale.start, scale.end)
    name = shortened(bar.label, SIZE, left - 14)
    figure = shortened(bar.text, SMALL, width - end - _INSET)
    return (
        text(name, 2.0, middle + 4.5, SIZE, style=STYLE["ink"])
        + whisker(bar, middle, scale)
        + text(figure, width - 2, middle + 4, SMALL, style=STYLE["soft"], text_anchor="end")
    )


def _tall_line(bar: Bar, y: float, scale: Scale, width: float, apart: bool) -> str:
    """Name and figure, on a line each where they are `apart`, and below them the whisker."""
    room = width - 4 if apart else width - width_of(bar.text, SMALL) - 12
    figure = (
        text(shortened(bar.text, SMALL, width - 4), 2.0, y + 30, SMALL, style=STYLE["soft"])
        if apart
        else text(bar.text, width - 2, y + 15, SMALL, style=STYLE["soft"], text_anchor="end")
    )
    name = text(shortened(bar.label, SIZE, room), 2.0, y + 15, SIZE, style=STYLE["ink"])
    return name + figure + whisker(bar, y + (46 if apart else 30), scale)


def whisker(bar: Bar, y: float, scale: Scale) -> str:
    """Interval and mark; an end that is not bounded is an arrow."""
    if bar.value is None:
        return ""
    low, high = scale(bar.low), scale(bar.high)
    path = f"M{low:.2f} {y:.2f}H{high:.2f}"
    path += _end(bar.low, low, y, -1) + _end(bar.high, high, y, 1)
    mark = element(
        "circle",
        cx=scale(bar.value),
        cy=y,
        r=RADIUS,
        style=STYLE["solid" if bar.solid else "hollow"],
    )
    return element("path", d=path, style=STYLE["whisker"]) + mark


def _end(value: float, x: float, y: float, side: int) -> str:
    if math.isinf(value):
        back = x - side * 5
        return f"M{back:.2f} {y - 4:.2f}L{x:.2f} {y:.2f}L{back:.2f} {y + 4:.2f}"
    return f"M{x:.2f} {y - 4:.2f}V{y + 4:.2f}"


def _ground(scale: Scale, axis: Axis, top: float, bottom: float, room: tuple[float, float]) -> str:
    """What lies behind the figures: the band, lines at ticks, and the numbers below."""
    parts: list[str] = []
    if axis.band:
        left, right = scale(-axis.band), scale(axis.band)
        parts.append(
            element(
                "rect", x=left, y=top, width=right - left, height=bottom - top, style=STYLE["band"]
            )
        )
    marks = [(scale(one), axis.write(one)) for one in ticks(scale, axis, SMALL, room)]
    if scale.nought is not None:
        marks.insert(0, (scale.nought, axis.write(0.0)))
    for x, words in marks:
        parts.append(element("path", d=f"M{x:.2f} {top:.2f}V{bottom:.2f}", style=STYLE["grid"]))
        parts.append(text(words, x, bottom + 15, SMALL, style=STYLE["soft"], text_anchor="middle"))
    if axis.zero:
        x = scale(0.0)
        parts.append(element("path", d=f"M{x:.2f} {top:.2f}V{bottom:.2f}", style=STYLE["zero"]))
    return "".join(parts)


# --- small multiples ------------------------------------------------------------------------------


def _panels(chart: Panels, width: float) -> Drawn:
    """Names once at the left and panels beside each other, or panels below each other with names each."""
    if not chart.panels:
        return Drawn("", 0.0)
    labels = max((width_of(bar.label, SIZE) for bar in chart.panels[0].bars), default=0.0)
    names = min(labels, 0.3 * width) + 12
    most = max(1, min(len(chart.panels), int((width - names) / 170)))
    columns = math.ceil(len(chart.panels) / math.ceil(len(chart.panels) / most))
    room = (width - names) / columns
    scales = _shared(chart, room)
    parts, top, height = list[str](), 0.0, 0.0
    for number, panel in enumerate(chart.panels):
        column = number % columns
        if column == 0:
            top, height = top + height, 0.0
            parts.append(_names(panel.bars, top, names))
        shift = names + column * room
        drawn = _panel(panel.title, panel.bars, panel.axis, scales[number], room)
        parts.append(element("g", drawn.markup, transform=f"translate({shift:.2f} {top:.2f})"))
        height = max(height, drawn.height)
    return Drawn("".join(parts), top + height)


def _shared(chart: Panels, room: float) -> list[Scale]:
    """Panels with equal axes share a scale, so that they can be compared."""
    found: list[Scale] = []
    for panel in chart.panels:
        alike = [bar for one in chart.panels if one.axis == panel.axis for bar in one.bars]
        found.append(span(alike, panel.axis, _INSET, room - _INSET))
    return found


_ROW: Final = 22.0


def _names(bars: Sequence[Bar], top: float, room: float) -> str:
    return "".join(
        text(
            shortened(bar.label, SIZE, room - 12),
            2.0,
            top + _HEAD + _ROW * (i + 0.5) + 4.5,
            SIZE,
            style=STYLE["ink"],
        )
        for i, bar in enumerate(bars)
    )


def _panel(title: str, bars: Sequence[Bar], axis: Axis, scale: Scale, room: float) -> Drawn:
    bottom = _HEAD + _ROW * len(bars)
    shown = shortened(title, SIZE * 1.08, room - 8)
    head = text(
        shown, room / 2, 16.0, SIZE, style=STYLE["ink"], font_weight="600", text_anchor="middle"
    )
    marks = "".join(whisker(bar, _HEAD + _ROW * (i + 0.5), scale) for i, bar in enumerate(bars))
    return Drawn(
        head + _ground(scale, axis, _HEAD, bottom, (0.0, room)) + marks, bottom + _FOOT + 8
    )
