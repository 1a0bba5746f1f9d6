"""Where names stand beside points, so that none covers another name, a point or a line.

Each name takes the free place nearest to its point, among a grid of places; names of lonely points first would
be better by a little, and slower. Not here: drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_STEP: Final = 6.0
_NEAR: Final = 9.0
"""Pixels from a point to its name."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, top, right, bottom, in pixels, top above bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether they share a point within."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether no part lies outside of the other."""
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    taken: Sequence[Box],
    area: Box,
) -> list[Box | None]:
    """A box for each name; None: there is no free place in the area.

    Args:
        points: [n] what is named.
        sizes: [n] width and height of the names.
        taken: what no name may cover: marks and lines.
    """
    full, found = list(taken), list[Box | None]()
    for point, size in zip(points, sizes, strict=True):
        box = next(
            (
                one
                for one in _around(point, size, area)
                if one.within(area) and not any(one.meets(other) for other in full)
            ),
            None,
        )
        found.append(box)
        if box is not None:
            full.append(box)
    return found


def _around(point: tuple[float, float], size: tuple[float, float], area: Box) -> Iterator[Box]:
    """Places beside the point, then all others by how far they are."""
    (x, y), (width, height) = point, size
    beside = (
        (x + _NEAR, y - height / 2),
        (x - _NEAR - width, y - height / 2),
        (x + _NEAR, y - height - 4),
        (x + _NEAR, y + 4),
        (x - _NEAR - width, y - height - 4),
        (x - _NEAR - width, y + 4),
        (x - width / 2, y - height - _NEAR),
        (x - width / 2, y + _NEAR),
    )
    for left, top in beside:
        yield Box(left, top, left + width, top + height)
    columns = max(0, int((area.right - area.left - width) / _STEP)) + 1
    lines = max(0, int((area.bottom - area.top - height) / _STEP)) + 1
    corners = [
        (area.left + _STEP * i, area.top + _STEP * j) for i in range(columns) for j in range(lines)
    ]
    corners.sort(key=lambda one: _far(point, Box(*one, one[0] + width, one[1] + height)))
    for left, top in corners:
        yield Box(left, top, left + width, top + height)


def _far(point: tuple[float, float], box: Box) -> float:
    """From a point to the nearest point of a box."""
    across = max(box.left - point[0], 0.0, point[0] - box.right)
    down = max(box.top - point[1], 0.0, point[1] - box.bottom)
    return math.hypot(across, down)
