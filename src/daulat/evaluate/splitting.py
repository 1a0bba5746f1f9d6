"""Which examples a router is fitted on, which its thresholds are tested on, and which audit the outcome.

What belongs together stays together: examples of one cluster (a document, a session). A prompt that occurs
several times counts once. A hash of the seed and of the prompt or the cluster's name decides who comes where,
not the order of the file. Not here: what is done with the parts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daulat.errors import DataError
from daulat.route.learning.outcomes import Outcomes

IntArray = NDArray[np.int64]

TRAIN: Final = 0.4
"""Of the labels that are not for the audit, the share that the router is fitted on."""
AUDIT: Final = 0.1
"""Of all labels."""
FEWEST: Final = 20
"""Labelled examples in training, and in calibration."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers of an outcome table, in an order that has nothing to do with the answers.

    Attributes:
        train, calibrate, audit: with both endpoints' scores.
        unscored: neither of these, and not the same prompt as one of these.
        repeated: how many examples were set aside because their prompt had occurred.
        clustered: some examples belong together.
        largest: the examples of the largest cluster.
    """

    train: IntArray
    calibrate: IntArray
    audit: IntArray
    unscored: IntArray
    repeated: int
    clustered: bool
    largest: int


def split(outcomes: Outcomes, *, seed: int, labels: int | None, audit: float = AUDIT) -> Split:
    """Divide an outcome table of two endpoints.

    Args:
        labels: use so many scored examples at most to train and to calibrate; all others audit. None: use all,
            and keep back the share `audit`.

    Raises:
        DataError: there are too few scored examples.
    """
    units = _units(outcomes, seed)
    scored = _scored(outcomes)
    kept = [row for unit in units for row in unit]
    ready = [[row for row in unit if scored[row]] for unit in units]
    ready = [unit for unit in ready if unit]
    count = sum(map(len, ready))
    budget = count - round(audit * count) if labels is None else min(labels, count)
    train, rest = _first(ready, round(TRAIN * budget))
    calibrate, beyond = _first(rest, budget - _size(train))
    if min(_size(train), _size(calibrate)) < FEWEST:
        raise DataError(_too_few(outcomes, count, labels, len(outcomes) - len(kept)))
    sizes = [len(unit) for unit in ready]
    return Split(
        _rows(train),
        _rows(calibrate),
        _rows(beyond),
        np.array([row for row in kept if not scored[row]], np.int64),
        len(outcomes) - len(kept),
        max(sizes) > 1,
        max(sizes),
    )


def _units(outcomes: Outcomes, seed: int) -> list[list[int]]:
    """The rows of each cluster, or the row of each prompt, in the order of their hashes."""
    groups: dict[bytes, list[int]] = {}
    for row in _distinct(outcomes, seed):
        groups.setdefault(_unit(outcomes, row), []).append(row)
    ordered = sorted(groups, key=lambda unit: _hash(seed, unit))
    return [groups[unit] for unit in ordered]


def _distinct(outcomes: Outcomes, seed: int) -> list[int]:
    """One row of each prompt: scored ones first, then that of the least hash; in the order of their hashes."""
    scored = _scored(outcomes)
    hashes = [_hash(seed, _content(outcomes, row)) for row in range(len(outcomes))]
    chosen: dict[str, int] = {}
    for row in sorted(range(len(outcomes)), key=lambda row: (not scored[row], hashes[row])):
        chosen.setdefault(outcomes.prompts[row], row)
    return list(chosen.values())


def _scored(outcomes: Outcomes) -> list[bool]:
    missing: list[list[bool]] = np.isnan(outcomes.scores).tolist()
    return [not any(row) for row in missing]


def _unit(outcomes: Outcomes, row: int) -> bytes:
    # An example without a cluster has its own id there, which may be no more than its place in the file.
    alone = outcomes.clusters[row] == outcomes.ids[row]
    return (
        _bytes("prompt", outcomes.prompts[row])
        if alone
        else _bytes("cluster", outcomes.clusters[row])
    )


def _content(outcomes: Outcomes, row: int) -> bytes:
    answers = (answer or "" for answer in outcomes.answers[row])
    return _bytes(outcomes.prompts[row], repr(outcomes.scores[row].tolist()), *answers)


def _bytes(*texts: str) -> bytes:
    return b"\0".join(text.encode("utf-8", "surrogatepass") for text in texts)


def _hash(seed: int, data: bytes) -> bytes:
    return hashlib.sha256(b"%d\n" % seed + data).digest()


def _first(units: Sequence[list[int]], count: int) -> tuple[list[list[int]], list[list[int]]]:
    """Whole units of `count` examples together, or a few more, and all other units."""
    taken = 0
    for number, unit in enumerate(units):
        if taken >= count:
            return list(units[:number]), list(units[number:])
        taken += len(unit)
    return list(units), []


def _size(units: Iterable[list[int]]) -> int:
    return sum(map(len, units))


def _rows(units: Iterable[list[int]]) -> IntArray:
    return np.array([row for unit in units for row in unit], np.int64)


def _too_few(outcomes: Outcomes, count: int, labels: int | None, repeated: int) -> str:
    needed = math.ceil(FEWEST / TRAIN)
    if labels is not None and labels < min(needed, count):
        return f"With {labels} labels nothing can be certified; allow {needed} at least (--labels)."
    pair = " and ".join(outcomes.endpoints)
    again = f", {repeated} more are the same prompts again" if repeated else ""
    return (
        f"Only {count} different prompts have scores of both {pair}{again}. A certificate needs about "
        f"{math.ceil(needed / (1 - AUDIT))} at the very least, in many clusters if there are any, and some "
        "hundreds to save anything. Score more answers."
    )
