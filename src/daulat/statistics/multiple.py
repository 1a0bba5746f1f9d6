"""Many questions of the same data: slices.

Twenty slices without any difference show one "significant" at 5 %. Holm's adjustment keeps the chance that
any of them is so below 5 %; Bonferroni's intervals hold all at once with the stated confidence. Both need no
independence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daulat.statistics.paired import difference
from daulat.statistics.samples import Estimate, Labels, Numbers, floats, level
from daulat.statistics.significance import FLIPS, Significance, sign_flips
from daulat.statistics.special import FloatArray


@dataclass(frozen=True, slots=True)
class Slice:
    """The difference of two endpoints within a part of the examples.

    Attributes:
        name: the slice's.
        difference: with an interval for this slice alone.
        simultaneous: with intervals that hold for all slices at once.
        test: for this slice alone.
        adjusted: its p-value after Holm.
    """

    name: str
    difference: Estimate
    simultaneous: Estimate
    test: Significance
    adjusted: float


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Adjusted p-values, [m], in the order given: below 0.05 means significant at 5 % among all of them.

    S. Holm, Scandinavian Journal of Statistics 6 (1979). NaN counts as 1: a question that could not be asked
    was asked.
    """
    given = np.asarray(p_values, dtype=np.float64)
    raw = np.where(np.isnan(given), 1.0, given)
    order = np.argsort(raw, kind="stable")
    factors = np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors))
    return adjusted


def simultaneous(confidence: float, count: int) -> float:
    """The confidence that each of `count` intervals needs, for all to hold at once (Bonferroni)."""
    return 1.0 - level(confidence) / max(1, count)


def by_slice(
    a: Numbers,
    b: Numbers,
    slices: Sequence[str],
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    missing: float | None = None,
    flips: int = FLIPS,
    seed: int = 0,
) -> tuple[Slice, ...]:
    """The difference within each slice, by name; arguments as of `paired.compare`.

    Args:
        slices: [n] to which slice each example belongs; "" to none.

    Raises:
        ValueError: the lengths differ.
    """
    columns, names = (floats(a), floats(b)), np.asarray(slices, dtype=np.str_)
    if not len(columns[0]) == len(columns[1]) == len(names):
        raise ValueError("Scores and slices differ in length.")
    labels = None if clusters is None else np.asarray(clusters)
    wanted = sorted({str(name) for name in names if name})
    every = simultaneous(confidence, len(wanted))
    rows = [(name, names == name) for name in wanted]
    parts = [
        (name, columns[0][one], columns[1][one], None if labels is None else labels[one])
        for name, one in rows
    ]
    tests = [
        sign_flips(x, y, clusters=group, missing=missing, flips=flips, seed=seed)
        for _name, x, y, group in parts
    ]
    adjusted = holm([test.p for test in tests])
    return tuple(
        Slice(
            name,
            difference(x, y, clusters=group, confidence=confidence, missing=missing),
            difference(x, y, clusters=group, confidence=every, missing=missing),
            test,
            float(p),
        )
        for (name, x, y, group), test, p in zip(parts, tests, adjusted, strict=True)
    )
