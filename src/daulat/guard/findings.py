"""What was found in a text, how sensitive it is, and which of two findings in one place stays.

A finding says where and of which kind; it never holds the text itself. Not here: how to find
(`guard.scan`), and what a data class allows (`policy`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

CLASSES: Final = ("public", "internal", "personal", "secret")
"""The data classes that every installation has, least sensitive first; the policy may name more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Characters `start` to `end` (exclusive) of a text are probably of one kind.

    `score` is how sure the detector is, between 0.5 and 1: a form alone gives little, a checksum or
    a word beside it ("NIK:", "card number") more.
    """

    kind: str
    data_class: str
    start: int
    end: int
    score: float
    detector: str


def rank(data_class: str) -> int:
    """How sensitive a class is; one that the user named stands above ours, for the user meant it."""
    return CLASSES.index(data_class) if data_class in CLASSES else len(CLASSES)


def resolve(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in order, without overlaps.

    Of those that overlap, the highest class stays, then the longest, the surest, the earliest. It
    grows over what it displaces, so that no character that was found is left uncovered.
    """
    ordered = sorted(findings, key=lambda one: (one.start, one.end))
    kept: list[Finding] = []
    for one in ordered:
        if kept and one.start < kept[-1].end:
            kept[-1] = _joined(kept[-1], one)
        else:
            kept.append(one)
    return tuple(kept)


def _joined(left: Finding, right: Finding) -> Finding:
    best = max(left, right, key=_weight)
    return replace(best, start=left.start, end=max(left.end, right.end))


def _weight(one: Finding) -> tuple[int, int, float, int]:
    return (rank(one.data_class), one.end - one.start, one.score, -one.start)
