"""From rows of logits to natural-log probabilities: log softmax in float64, and the likeliest tokens.

A row's numbers are the same bits whatever other rows stand beside it. Nothing here is sampled, biased or
penalised: these are the model's own probabilities. Shapes: N rows, V vocabulary, M tokens asked for in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daulat.errors import ModelFileError
from daulat.models.numbers import Floats

Doubles = NDArray[np.float64]
Ids = NDArray[np.intp]
Top = tuple[tuple[int, float], ...]

_TOGETHER = 1 << 18  # numbers that are in float64 at once: what a second-level cache holds


@dataclass(frozen=True, slots=True)
class RowScores:
    """Attributes:
    logprobs: of the tokens asked for, [N, M].
    tops: for each row its likeliest tokens, best first, the lower id first among equals.
    """

    logprobs: Doubles
    tops: tuple[Top, ...]


def require_finite(logits: Floats) -> None:
    """Raises ModelFileError: a logit is not a finite number."""
    if not np.isfinite(logits).all():
        raise ModelFileError(
            "The model gave non-finite logits. Check its files (`daulat models verify`), "
            'or run it with engine.dtype = "float32".'
        )


def score_rows(logits: Floats, tokens: Ids, top: int = 0) -> RowScores:
    """Log-probabilities by logits [N, V] of tokens [N, M], and of the `top` likeliest."""
    highest, total = _normalisers(logits)
    found = np.take_along_axis(logits, tokens, axis=1).astype(np.float64)
    found -= highest[:, None]
    found -= total[:, None]
    if not top:
        return RowScores(found, ((),) * len(logits))
    best = [likeliest(row, top) for row in logits]
    tops = tuple(
        tuple(zip(ids.tolist(), (row[ids] - h - t).tolist(), strict=True))
        for row, ids, h, t in zip(logits, best, highest, total, strict=True)
    )
    return RowScores(found, tops)


def likeliest(logits: Floats, count: int) -> Ids:
    """Ids of the `count` largest of logits [V], best first, the lower id first among equals."""
    if count == 1:
        return np.array([logits.argmax()])
    if count < len(logits):
        kth = np.partition(logits, len(logits) - count)[len(logits) - count]
        some = np.flatnonzero(logits >= kth)
    else:
        some = np.arange(len(logits))
    return some[np.argsort(-logits[some], kind="stable")][:count]


def _normalisers(logits: Floats) -> tuple[Doubles, Doubles]:
    """Each row's largest logit, and the logarithm of the sum of exp(logit - largest), [N] both."""
    highest = logits.max(axis=1, initial=-np.inf).astype(np.float64)
    total = np.empty(len(logits), dtype=np.float64)
    rows = max(1, _TOGETHER // logits.shape[1])
    for first in range(0, len(logits), rows):
        part = slice(first, first + rows)
        z = logits[part].astype(np.float64)
        z -= highest[part, None]
        total[part] = np.log(np.exp(z, out=z).sum(axis=1))
    return highest, total
