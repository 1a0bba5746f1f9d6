"""What several sections are made with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from daulat.evaluate.plots import SIZE, Bar, shortened
from daulat.evaluate.reports.cautions import caveat
from daulat.evaluate.reports.words import Words
from daulat.statistics.samples import Estimate


def bar(
    label: str, estimate: Estimate | None, text: str, *, solid: bool = True, group: str = ""
) -> Bar:
    """An estimate as a chart takes it."""
    if estimate is None:
        return Bar(label, None, 0.0, 0.0, text, solid, group)
    return Bar(label, estimate.value, estimate.low, estimate.high, text, solid, group)


def less(a: str, b: str) -> str:
    """What a difference is of."""
    return f"{a} \u2212 {b}"


def brief(name: str) -> str:
    """A name as a chart of pairs has room for."""
    return shortened(name, SIZE, 100.0)


def tick(value: float) -> int:
    """Decimals of a number at a tick: none, one or two."""
    return next((n for n in (0, 1) if math.isclose(value, round(value, n), abs_tol=1e-9)), 2)


def caveats(say: Words, found: Sequence[tuple[str, Estimate | None]]) -> list[str]:
    """Notes on figures that say less than usual."""
    notes: list[str] = []
    for name, estimate in found:
        words = caveat(say, estimate.caveat) if estimate else ""
        if words:
            notes.append(say("{name}: {reason}.", name=name, reason=words))
    return notes
