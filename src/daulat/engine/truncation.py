"""What top_k, min_p and top_p leave of a distribution: found for all tokens, or asked about one.

They come in that order (`sampler`). `Ranked` is for tokens of which only some are allowed, where asking about
each of them takes long: whether one token is left is known once enough of the likelier ones are.

Not here: what is allowed (`guide`), which token is taken (`sampler`). Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from daulat.models.numbers import Floats
from daulat.values.request import Sampling

Doubles = NDArray[np.float64]
Ids = NDArray[np.intp]

_QUESTIONS = 256
"""In a step: about as many take as long as finding all that is allowed."""
_DEEPER = 8
"""Tokens are looked up so many times less likely than the last: few, for looking up takes long, too."""
_LEAST = 1e-12
"""Of the likeliest token's weight: what is less likely is found with all that is allowed."""
_EXACT = 1e-9
"""Of a mass: what is nearer to a border than that is not decided by sums in another order. Where all that is
allowed weighs less than a millionth of what is not, sums may be that inexact; such tokens are hardly drawn."""


def weights(logits: Floats, temperature: float) -> Doubles:
    """Probabilities [V] times a constant: the likeliest token weighs 1."""
    z = logits.astype(np.float64)
    z -= z.max()
    with np.errstate(over="ignore"):  # a tiny temperature: -inf is what is meant
        z /= temperature
    return np.exp(z, out=z)


def truncates(s: Sampling) -> bool:
    """Whether anything is left out at all."""
    return s.top_k > 0 or s.min_p > 0 or s.top_p < 1


def leaves(found: Doubles, total: float, token: int, s: Sampling) -> bool:
    """Whether one token is left: a sum over those before it, where `left` sorts.

    Args:
        found: weights [V]; the likeliest token weighs 1.
        total: of all of them.
    """
    weight = found[token]
    if weight < s.min_p:
        return False
    likelier = found > weight
    if s.top_k and np.count_nonzero(likelier) >= s.top_k:
        return False
    if s.top_p == 1:
        return True
    least = max(s.min_p, _kth(found, s.top_k) if 0 < s.top_k < len(found) else 0.0)
    total = found[found >= least].sum() if least else total
    before = found[likelier].sum() + weight * np.count_nonzero(found[:token] == weight)
    return bool(before < s.top_p * total)


def left(logits: Floats, s: Sampling) -> tuple[Ids | None, Doubles]:
    """Ids (None: all) and their weights, which are 0 for what min_p and top_p leave out."""
    ids = _top_k(logits, s.top_k)
    found = weights(logits if ids is None else logits[ids], s.temperature)
    if s.min_p > 0:
        # The likeliest token weighs 1.
        found[found < s.min_p] = 0
    if s.top_p < 1:
        found = _top_p(found, s.top_p)
    return ids, found


def _top_k(logits: Floats, k: int) -> Ids | None:
    """Ids, ascending, of the k largest and of those equal to the kth; None: all."""
    if not 0 < k < len(logits):
        return None
    return np.flatnonzero(logits >= _kth(logits, k))


def _kth(values: Floats | Doubles, k: int) -> float:
    """The kth largest."""
    return float(np.partition(values, len(values) - k)[len(values) - k])


def _top_p(found: Doubles, p: float) -> Doubles:
    """Weights, 0 for all but the nucleus (arXiv 1904.09751): the fewest tokens that hold mass p.

    Among equals the lower id comes first. At least one token is kept.
    """
    total = float(found.sum())
    falling = np.sort(found[_some(found, p, total)])[::-1]
    mass = np.cumsum(falling)
    count = min(int(np.searchsorted(mass, p * total)) + 1, len(falling))
    last = falling[count - 1]
    nucleus = found > last
    equals = np.flatnonzero(found == last)
    nucleus[equals[: count - int(nucleus.sum())]] = True
    return np.where(nucleus, found, 0.0)


def _some(found: Doubles, p: float, total: float) -> NDArray[np.bool_]:
    """Without those below half the average share of what is cut, which are all cut."""
    return found * (2 * len(found)) >= (1 - p) * total


class Ranked:
    """Whether a token is left, by asking about it and those before it, the likeliest first.

    Those that are known to be allowed and left weigh `_mass` together. The nucleus ends where it reaches a
    share of the weight of all that is left; of that the known mass is a lower bound, and that mass with the
    weight of all tokens not asked about is an upper one. A token is inside when what comes before it is less
    than the share of the lower bound, and outside when it is more than that of the upper bound.

    Args:
        found: weights [V] of all tokens, allowed or not.
        total: of all of them.
    """

    def __init__(
        self, found: Doubles, total: float, s: Sampling, allows: Callable[[int], bool]
    ) -> None:
        self._weights = found
        self._k, self._min_p, self._p = s.top_k or len(found), s.min_p, s.top_p
        self._allows = allows
        self._rest = float(total)
        self._queue: list[tuple[float, int]] = []
        """Weights and tokens, the likeliest last."""
        self._least = np.inf
        """All tokens of that weight or more have been in the queue."""
        self._questions = _QUESTIONS
        self._before: dict[int, float] = {}
        """For each token that is allowed, and left by top_k and min_p: what those before it weigh."""
        self._mass = self._best = self._last = 0.0
        self._ended = False

    def leaves(self, token: int) -> bool | None:
        """Whether the token is allowed and left; None: that takes too many questions."""
        if not self._allows(token):
            return False
        weight = float(self._weights[token])
        while (known := self._known(token)) is None:
            if not self._queue and not self._fill(min(weight, self._least) / _DEEPER):
                return None
            self._ask(*self._queue.pop())
        return known

    def _known(self, token: int) -> bool | None:
        before = self._before.get(token)
        if before is None:
            return False if self._ended else None
        if self._p == 1 or before < self._p * self._mass * (1 - _EXACT):
            return True
        most = self._mass if self._ended else self._mass + self._rest
        return False if before > self._p * most * (1 + _EXACT) else None

    def _fill(self, least: float) -> bool:
        """Queue all that weigh so much or more, and have not been asked about, if there are any; whether that
        could be done with the questions that are left."""
        some = np.flatnonzero(self._weights >= least)
        found = self._weights[some]
        new = found < self._least
        some, found = some[new], found[new]
        self._questions -= len(some)
        if self._questions < 0:
            return False
        self._least = least
        if not len(some):
            return least > _LEAST and self._fill(least / _DEEPER)
        order = np.lexsort((-some, found))
        self._queue = list(zip(found[order].tolist(), some[order].tolist(), strict=True))
        return True

    def _ask(self, weight: float, token: int) -> None:
        if not self._allows(token):
            self._rest -= weight
            return
        if self._is_over(weight):
            self._ended = True
            return
        self._rest -= weight
        self._best = self._best or weight
        self._before[token], self._last = self._mass, weight
        self._mass += weight

    def _is_over(self, weight: float) -> bool:
        """Whether top_k and min_p leave out an allowed token of that weight, and all behind it."""
        over_k = len(self._before) >= self._k and weight < self._last
        return over_k or weight < self._min_p * self._best
