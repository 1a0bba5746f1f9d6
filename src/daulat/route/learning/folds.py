"""Splits for cross-validation that keep together what belongs together, whatever order a table is in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from daulat.canon import canonical
from daulat.route.learning.outcomes import Outcomes


def groups(outcomes: Outcomes) -> NDArray[np.int64]:
    """int64 [n]: a number for each example; those of one cluster or with one prompt share it.

    A prompt that occurs in two clusters makes them one group: else a copy could be learnt from and tested on.
    """
    parent = list(range(len(outcomes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for names in (outcomes.clusters, map(_same, outcomes.prompts)):
        first: dict[str, int] = {}
        for i, name in enumerate(names):
            parent[root(i)] = root(first.setdefault(name, i))
    roots = [root(i) for i in range(len(outcomes))]
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def _same(prompt: str) -> str:
    return " ".join(prompt.lower().split())


def in_order(outcomes: Outcomes) -> NDArray[np.int64]:
    """int64 [n]: the rows in an order that hangs on what is in them alone, not on where they stand.

    Ids do not count: those that a file does not give are numbers of rows.
    """
    endpoints = sorted(outcomes.endpoints)
    columns = [outcomes.column(name) for name in endpoints]
    keys = [_key(outcomes, row, columns) for row in range(len(outcomes))]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _key(outcomes: Outcomes, row: int, columns: Iterable[int]) -> bytes:
    content = [
        outcomes.prompts[row],
        outcomes.categories[row],
        *((outcomes.answers[row][c], repr(float(outcomes.scores[row, c]))) for c in columns),
    ]
    return hashlib.sha256(canonical(content)).digest()


def folds(of: NDArray[np.int64], count: int, seed: int) -> list[NDArray[np.int64]]:
    """The rows of each fold: whole groups, drawn at random, the folds of nearly equal size.

    Args:
        of: int64 [n]: each row's group, numbered from 0.
        count: at most so many folds; there are never more than groups.
    """
    sizes = np.bincount(of)
    # By first occurrence, so that the numbers of the groups do not matter.
    order = of[np.sort(np.unique(of, return_index=True)[1])]
    drawn = order[np.random.default_rng(seed).permutation(len(order))]
    fold = np.zeros(len(sizes), np.int64)
    filled = np.zeros(min(count, len(sizes)), np.int64)
    for group in drawn:
        fold[group] = int(filled.argmin())
        filled[fold[group]] += sizes[group]
    return [np.flatnonzero(fold[of] == i) for i in range(len(filled))]
