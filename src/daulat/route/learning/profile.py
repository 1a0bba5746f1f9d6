"""What the prompts of a task look like, so that a request can be told to belong to it or not.

A prompt is the counts of its words and pairs of words, hashed into a vector of length one (Weinberger et al.,
"Feature Hashing for Large Scale Multitask Learning", 2009); a task is the mean of its prompts. A request
belongs to a task if it is at least as near to that mean as nearly all of the task's own prompts are, each
measured against the others. That is a test of words, not of meaning: it holds a certificate to traffic that
looks like what it was made from. Not here: what is done with a request that belongs to none (`flow.auto`).
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SIZE: Final = 4096
_OWN_SHARE: Final = 0.02
"""So many of a task's own prompts are further away than its limit."""
_MOST_PROMPTS: Final = 1000
_MOST_CHARACTERS: Final = 20_000
_WORDS = re.compile(r"\w{4,}|\d+|[^\w\s]")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A task's prompts.

    Attributes:
        mean: float64 [SIZE], of length at most one.
        limit: the least similarity (cosine, in [0, 1]) of what belongs.
    """

    mean: FloatArray
    limit: float

    def similarity(self, prompt: str) -> float:
        """Cosine of the prompt and the mean."""
        length = float(np.linalg.norm(self.mean))
        return float(vector(prompt) @ self.mean) / length if length else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; what is not zero, by place."""
        places = np.flatnonzero(self.mean)
        return {
            "limit": self.limit,
            "places": [int(place) for place in places],
            "values": [round(float(self.mean[place]), 9) for place in places],
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Profile:
        """The other way.

        Raises:
            ValueError: it is no profile.
        """
        try:
            places = np.asarray(told["places"], dtype=np.int64)
            values = np.asarray(told["values"], dtype=np.float64)
            limit = float(told["limit"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("a task's profile has `limit`, `places` and `values`") from error
        good = places.ndim == 1 and places.shape == values.shape and bool(np.isfinite(values).all())
        inside = bool(((places >= 0) & (places < SIZE)).all()) and 0 <= limit <= 1
        if not good or not inside:
            raise ValueError(f"a task's profile has places below {SIZE} and finite values")
        mean = np.zeros(SIZE)
        mean[places] = values
        return cls(mean, limit)


def profile(prompts: Sequence[str]) -> Profile:
    """The profile of a task.

    Args:
        prompts: at least one; of very many, 1,000 spread over all of them are looked at.

    Raises:
        ValueError: there are none.
    """
    if not prompts:
        raise ValueError("a task without prompts has no profile")
    step = max(1, math.ceil(len(prompts) / _MOST_PROMPTS))
    vectors = np.stack([vector(prompt) for prompt in prompts[::step]])
    total, n = vectors.sum(axis=0), len(vectors)
    if n == 1:
        return Profile(total, 0.5)
    # Each against the mean of the others: one's own words would make it look at home anywhere.
    others = (total - vectors) / (n - 1)
    lengths = np.linalg.norm(others, axis=1)
    near = np.einsum("nd,nd->n", vectors, others) / np.where(lengths, lengths, 1.0)
    return Profile(total / n, float(np.clip(np.quantile(near, _OWN_SHARE), 0.0, 1.0)))


def vector(prompt: str) -> FloatArray:
    """A prompt as a vector of length one; of an empty one, zero. Float64 [SIZE]."""
    words = _WORDS.findall(prompt[:_MOST_CHARACTERS].lower())
    counts = Counter(words)
    counts.update(f"{a} {b}" for a, b in itertools.pairwise(words))
    found = np.zeros(SIZE)
    for word, count in counts.items():
        found[zlib.crc32(word.encode("utf-8", "surrogatepass")) % SIZE] += 1.0 + math.log(count)
    length = float(np.linalg.norm(found))
    return found / length if length else found
