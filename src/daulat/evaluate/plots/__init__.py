"""Small charts as SVG: intervals, cost against quality, slices. No scripts, no libraries.

`charts` says what is drawn, `drawing` and `scatter` draw it for a width, `axes` chooses ranges and ticks,
`labels` finds places for names, `svg` writes elements and measures texts. A chart is drawn once for wide and
once for narrow pages, so that its letters keep their size. Colours are CSS variables with defaults that
colour-blind people can tell apart, and what a colour says is also said by a shape. Not here: tables, words.
"""

from daulat.evaluate.plots.axes import spans_decades
from daulat.evaluate.plots.charts import (
    Axis,
    Bar,
    Chart,
    Intervals,
    Panel,
    Panels,
    Scatter,
    Spot,
)
from daulat.evaluate.plots.drawing import NARROW, WIDE, draw
from daulat.evaluate.plots.style import SIZE
from daulat.evaluate.plots.svg import shortened

__all__ = [
    "NARROW",
    "SIZE",
    "WIDE",
    "Axis",
    "Bar",
    "Chart",
    "Intervals",
    "Panel",
    "Panels",
    "Scatter",
    "Spot",
    "draw",
    "shortened",
    "spans_decades",
]
