"""Two figures of each of several things: where they stand, with both intervals and a name each.

Not here: single figures (`drawing`), where names go (`labels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from daulat.evaluate.plots.axes import Scale, span, ticks
from daulat.evaluate.plots.charts import Axis, Scatter, Spot
from daulat.evaluate.plots.labels import Box, place
from daulat.evaluate.plots.style import RADIUS, SIZE, SMALL, STYLE
from daulat.evaluate.plots.svg import element, shortened, text, width_of

_TOP: Final = 28.0
_BOTTOM: Final = 46.0
_RIGHT: Final = 14.0
_INSET: Final = 14.0
_LEAST: Final = 300.0


def scattered(chart: Scatter, width: float) -> tuple[str, float]:
    """Markup, and how high it is: higher where there are many names."""
    height = max(_LEAST, 0.45 * width, _TOP + _BOTTOM + 30.0 * len(chart.spots))
    bottom = height - _BOTTOM
    up = span([one.up for one in chart.spots], chart.up, bottom - _INSET, _TOP + _INSET)
    left = 8 + max((width_of(words, SMALL) for _y, words in _marks(up, chart.up)), default=0.0)
    right = width - _RIGHT
    across = span([one.across for one in chart.spots], chart.across, left + _INSET, right - _INSET)
    area = Box(left, _TOP, right, bottom)
    parts = [_levels(up, chart.up, area), _uprights(across, chart.across, area, width)]
    parts += [
        text(shortened(chart.up.title, SMALL, width - 8), 2, 12, SMALL, style=STYLE["soft"]),
        text(
            shortened(chart.across.title, SMALL, width - 8),
            width - 2,
            height - 6,
            SMALL,
            style=STYLE["soft"],
            text_anchor="end",
        ),
    ]
    known = [one for one in chart.spots if None not in (one.across.value, one.up.value)]
    parts += [_cross(one, across, up) for one in known]
    parts += _names(known, across, up, area)
    return "".join(parts), height


def _marks(
    scale: Scale, axis: Axis, room: tuple[float, float] | None = None
) -> list[tuple[float, str]]:
    """Pixels of ticks with what stands there."""
    found = [(scale(one), axis.write(one)) for one in ticks(scale, axis, SMALL, room)]
    return found if scale.nought is None else [(scale.nought, axis.write(0.0)), *found]


def _levels(scale: Scale, axis: Axis, area: Box) -> str:
    return "".join(
        element("path", d=f"M{area.left:.2f} {y:.2f}H{area.right:.2f}", style=STYLE["grid"])
        + text(words, area.left - 6, y + 4, SMALL, style=STYLE["soft"], text_anchor="end")
        for y, words in _marks(scale, axis)
    )


def _uprights(scale: Scale, axis: Axis, area: Box, width: float) -> str:
    return "".join(
        element("path", d=f"M{x:.2f} {area.top:.2f}V{area.bottom:.2f}", style=STYLE["grid"])
        + text(words, x, area.bottom + 16, SMALL, style=STYLE["soft"], text_anchor="middle")
        for x, words in _marks(scale, axis, (0.0, width))
    )


def _cross(spot: Spot, across: Scale, up: Scale) -> str:
    x, y = _middle(spot, across, up)
    level = f"M{across(spot.across.low):.2f} {y:.2f}H{across(spot.across.high):.2f}"
    upright = f"M{x:.2f} {up(spot.up.low):.2f}V{up(spot.up.high):.2f}"
    return element("path", d=level + upright, style=STYLE["whisker"]) + element(
        "circle", cx=x, cy=y, r=RADIUS, style=STYLE["solid" if spot.up.solid else "hollow"]
    )


def _middle(spot: Spot, across: Scale, up: Scale) -> tuple[float, float]:
    return across(spot.across.value or 0.0), up(spot.up.value or 0.0)


def _names(spots: Sequence[Spot], across: Scale, up: Scale, area: Box) -> list[str]:
    """Names beside their points; one that stands apart is led to its point by a line."""
    points = [_middle(one, across, up) for one in spots]
    room = min(220.0, 0.6 * (area.right - area.left))
    shown = [shortened(one.label, SIZE, room) for one in spots]
    sizes = [(width_of(one, SIZE), SIZE + 3) for one in shown]
    boxes = place(points, sizes, [b for one in spots for b in _taken(one, across, up)], area)
    parts: list[str] = []
    for point, words, box in zip(points, shown, boxes, strict=True):
        if box is None:
            continue
        end = (min(max(point[0], box.left), box.right), min(max(point[1], box.top), box.bottom))
        if abs(end[0] - point[0]) + abs(end[1] - point[1]) > 16:
            path = f"M{point[0]:.2f} {point[1]:.2f}L{end[0]:.2f} {end[1]:.2f}"
            parts.append(element("path", d=path, style=STYLE["lead"]))
        parts.append(text(words, box.left, box.bottom - 4, SIZE, style=STYLE["ink"]))
    return parts


def _taken(spot: Spot, across: Scale, up: Scale) -> tuple[Box, Box, Box]:
    """What the mark and its two lines cover."""
    x, y = _middle(spot, across, up)
    left, right = sorted((across(spot.across.low), across(spot.across.high)))
    top, bottom = sorted((up(spot.up.low), up(spot.up.high)))
    reach = RADIUS + 2
    return (
        Box(x - reach, y - reach, x + reach, y + reach),
        Box(left, y - 2, right, y + 2),
        Box(x - 2, top, x + 2, bottom),
    )
