"""What a chart shows, as values. Not here: how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Write = Callable[[float], str]
"""How a number stands at a tick."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure with its interval.

    Attributes:
        value: None: not known, nothing is drawn.
        low, high: may be infinite: the line then ends in an arrow at the chart's edge.
        text: the figure in words.
        solid: the mark is filled.
        group: heading above the first bar of a group.
    """

    label: str
    value: float | None
    low: float
    high: float
    text: str
    solid: bool = True
    group: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """How numbers are laid out.

    Attributes:
        write: a number at a tick.
        least, most: what the figures cannot be below or above; None: no such end.
        zero: zero belongs to the range, and has a line.
        band: from minus this to this is shaded; 0: nothing is.
        logarithmic: where the figures span more than `axes.DECADES`.
    """

    write: Write
    title: str = ""
    least: float | None = None
    most: float | None = None
    zero: bool = False
    band: float = 0.0
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Intervals:
    """Figures with intervals, one a line."""

    title: str
    bars: tuple[Bar, ...]
    axis: Axis


@dataclass(frozen=True, slots=True)
class Panel:
    """One of several charts of the same lines. `axis`: its own; panels with equal axes share their range."""

    title: str
    bars: tuple[Bar, ...]
    axis: Axis


@dataclass(frozen=True, slots=True)
class Panels:
    """Small multiples: the same lines, side by side where there is room."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """A figure of two: across and up, each with its interval."""

    label: str
    across: Bar
    up: Bar


@dataclass(frozen=True, slots=True)
class Scatter:
    """Two figures of each of several things."""

    title: str
    spots: tuple[Spot, ...]
    across: Axis
    up: Axis


Chart = Intervals | Panels | Scatter
