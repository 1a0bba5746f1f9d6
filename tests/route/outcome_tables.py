"""Outcome tables for tests: arbitrary small ones, and larger ones with a known truth in them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from daulat.route.learning.outcomes import Outcomes

_TEXT = st.text(min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
_NAME = st.text("abcXYZ-4. é", min_size=1, max_size=6).map(str.strip).filter(bool)


@st.composite
def tables(draw: st.DrawFn) -> Outcomes:
    """Any small table: cells may be missing, texts may hold anything."""
    n, k = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    ids = draw(st.lists(_NAME, min_size=n, max_size=n, unique=True))

    def numbers(least: float, most: float) -> np.ndarray:
        cell = st.just(float("nan")) | st.floats(least, most).map(lambda x: x + 0.0)
        return np.array(draw(st.lists(cell, min_size=n * k, max_size=n * k))).reshape(n, k)

    def texts(one: st.SearchStrategy) -> tuple:
        return tuple(tuple(draw(one) for _ in range(k)) for _ in range(n))

    return Outcomes(
        endpoints=tuple(draw(st.lists(_NAME, min_size=k, max_size=k, unique=True))),
        ids=tuple(ids),
        prompts=tuple(draw(_TEXT) for _ in range(n)),
        answers=texts(st.none() | st.text(max_size=8)),
        scores=numbers(0, 1),
        costs=numbers(0, 1e9),
        seconds=numbers(0, 1e6),
        categories=tuple(draw(st.just("") | _NAME) for _ in range(n)),
        clusters=tuple(draw(st.just(own) | _NAME) for own in ids),
        logprobs=numbers(-1e4, 0),
        samples=texts(st.lists(st.text(max_size=4), max_size=2).map(tuple)),
    )
