"""Outcome tables for tests: arbitrary small ones, and larger ones with a known truth in them."""

from __future__ import annotations

from dataclasses import replace

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
        probes=tuple(
            zip(*(draw(probes(n, draw(st.integers(1, 4)))) for _ in range(k)), strict=True)
        ),
    )


def probes(n: int, length: int) -> st.SearchStrategy[list[tuple[float, ...]]]:
    """One endpoint's, of which some may be missing."""
    figure = st.floats(-1e30, 1e30).map(lambda x: x + 0.0)
    some = st.lists(figure, min_size=length, max_size=length).map(tuple)
    return st.lists(st.just(()) | some, min_size=n, max_size=n)


def planted(n: int, seed: int = 0, *, answers: bool = True, k: int = 2) -> Outcomes:
    """A table with a truth in it: sums are hard for the cheap endpoint, and a wrong sum shows in its answer."""
    random = np.random.default_rng(seed)
    hard = random.random(n) < 0.5
    kinds = np.where(hard, "sums", "words")
    skill = np.linspace(0.25, 0.95, k)
    right = np.where(hard[:, None], random.random((n, k)) < skill, random.random((n, k)) < 0.9)
    numbers = random.integers(2, 90, (n, 2))
    words = random.choice(["harbour", "market", "river", "teacher", "window"], (n, 3))
    prompts = tuple(
        f"What is {a} * {b}? Show the steps, number {i}."
        if h
        else f"Name a {x} by the {y}, case {i}."
        for i, (h, (a, b), (x, y, _)) in enumerate(zip(hard, numbers, words, strict=True))
    )
    told = tuple(
        tuple(_told(h, a, b, bool(good), x) if answers else None for good in row)
        for h, (a, b), row, (x, *_) in zip(hard, numbers.tolist(), right, words, strict=True)
    )
    unknown = np.full((n, k), np.nan)
    ids = tuple(f"e{seed}-{i}" for i in range(n))
    names = ("llama", *(f"closed-{i}" for i in range(1, k)))
    return Outcomes(
        endpoints=names,
        ids=ids,
        prompts=prompts,
        answers=told,
        scores=right.astype(float),
        costs=np.tile(np.arange(k) * 0.01, (n, 1)),
        seconds=np.tile(0.5 + np.arange(k), (n, 1)),
        categories=tuple(map(str, kinds)),
        clusters=ids,
        logprobs=unknown,
        samples=tuple(((),) * k for _ in range(n)),
        probes=tuple(((),) * k for _ in range(n)),
    )


def probed(table: Outcomes, seed: int = 0, figures: int = 6) -> Outcomes:
    """The same with probes of the first endpoint's answers, of which one figure in two tells who is right."""
    random = np.random.default_rng(seed)
    drawn = random.normal(scale=5, size=(len(table), figures))
    drawn[:, ::2] += 8 * table.scores[:, :1]
    rest = ((),) * (len(table.endpoints) - 1)
    return replace(table, probes=tuple((tuple(row), *rest) for row in drawn.round(4).tolist()))


def _told(hard: bool, a: int, b: int, good: bool, word: str) -> str:
    if not hard:
        return f"The {word}." if good else f"I cannot tell, perhaps the {word}."
    return (
        f"{a} * {b} = {a * b if good else a * b + 7}. The answer is {a * b if good else a * b + 7}."
    )
