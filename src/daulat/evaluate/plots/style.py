"""How parts of charts look, by their role. Blue stands out from the rest for every kind of colour sight."""

from __future__ import annotations

from typing import Final

SIZE: Final = 13.0
"""Pixels of names."""
SMALL: Final = 11.5
"""Pixels of figures and ticks."""
RADIUS: Final = 4.0

STYLE: Final = {
    "ink": "fill:currentColor;stroke:var(--sheet,#fff);stroke-width:3;paint-order:stroke",
    "soft": "fill:var(--soft,#666)",
    "grid": "stroke:var(--line,#ddd);stroke-width:1;fill:none",
    "zero": "stroke:var(--soft,#666);stroke-width:1.25;fill:none",
    "band": "fill:var(--mark,#0072b2);fill-opacity:.1",
    "whisker": "stroke:var(--mark,#0072b2);stroke-width:2;stroke-linecap:round;fill:none",
    "solid": "fill:var(--mark,#0072b2);stroke:var(--mark,#0072b2);stroke-width:2",
    "hollow": "fill:var(--sheet,#fff);stroke:var(--mark,#0072b2);stroke-width:2",
    "lead": "stroke:var(--soft,#666);stroke-width:.75;fill:none",
}
