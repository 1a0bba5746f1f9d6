"""A hidden-state probe: a few figures of what a model held in its last layer while it wrote an answer.

Whether a model is right shows in its hidden states, often better than in the probability of its words
(S. Kadavath et al., "Language Models (Mostly) Know What They Know", 2022; A. Azaria, T. Mitchell, "The Internal
State of an LLM Knows When It's Lying", EMNLP 2023). Of the states behind which an answer's tokens were chosen
there are the mean and the last, which has seen all of the answer where the model itself ended it. Each is
projected to `WIDTH` numbers by random signs, which keep lengths and distances on average (W. Johnson,
J. Lindenstrauss, 1984; D. Achlioptas, "Database-friendly random projections", 2003). The signs hang on H alone.

Not here: what is learnt from the figures (`route.learning`), where states come from (`rows`). Shapes: H hidden.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 32
"""Numbers that a state becomes."""
FIGURES: Final = 2 * WIDTH
"""Of a probe: those of the mean, then those of the last."""
_DIGITS: Final = 6
_SEED: Final = "daulat probe"

Doubles = NDArray[np.float64]


class Probe:
    """Gathers one answer's states as they come."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Doubles = np.zeros(0)
        self._last: Doubles = np.zeros(0)

    def add(self, state: NDArray[np.float32]) -> None:
        """The state [H] behind which the next token was chosen."""
        # One by one, in order and in float64: no matter which steps they came from.
        self._last = state.astype(np.float64)
        self._sum = self._sum + self._last if self._count else self._last
        self._count += 1

    def figures(self) -> tuple[float, ...]:
        """`FIGURES` finite numbers, rounded to six digits; none where no token was chosen."""
        if not self._count:
            return ()
        both = [*project(self._sum / self._count), *project(self._last)]
        return tuple(float(f"{x:.{_DIGITS}g}") + 0.0 for x in both)  # no -0.0


def project(state: Doubles) -> Doubles:
    """[WIDTH] of a state [H]; the squared length is kept on average over all projections.

    The same bits on every machine: the products are exact, and the sums go down the rows in order.
    """
    return (state[:, None] * signs(len(state))).sum(axis=0) / WIDTH**0.5


@lru_cache(maxsize=8)
def signs(hidden: int) -> Doubles:
    """+1 and -1, [H, WIDTH], drawn by a hash (SHAKE-256), so that no library's update changes them."""
    drawn = hashlib.shake_256(f"{_SEED} {hidden}".encode()).digest(hidden * WIDTH // 8)
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8)).reshape(hidden, WIDTH)
    return np.where(bits, -1.0, 1.0)
