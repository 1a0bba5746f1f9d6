"""What a router knows of an example before it chooses: figures, words, category, vectors if there are any.

*before*: what the prompt shows. *cascade*: besides, what the first endpoint's own answer shows. All of it is
local: nothing is sent anywhere, and no model is asked but the encoder that a caller brings as a function.
Words are kept as hashes only, so that a stored router holds none.

Not here: what is made of it (`mapping`), figures of one text (`shapes`).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daulat.errors import DataError
from daulat.route.learning import shapes
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.route.learning.texts import ending, seen
from daulat.route.rule import Mode

Encode = Callable[[Sequence[str]], FloatArray]
"""Texts to vectors, [n, d]: the house's own encoder, `/v1/embeddings` or any other."""

BUCKETS: Final = 1 << 18
"""Hashes of words: those of a prompt are in the lower half, those of an answer in the upper one."""
_HALF: Final = BUCKETS // 2
_MIX: Final = 0x9E3779B1 >> 8
_MASK: Final = (1 << 32) - 1
_TERM: Final = re.compile(r"[^\W_]+|[$%^\\=<>]")
_MAX_TERMS: Final = 2048

CASCADE: Final = (
    *(f"answer: {name}" for name in shapes.ANSWER),
    *(
        "log-probability known",
        "log-probability",
        "samples known",
        "samples agree",
        "samples alike",
    ),
)
FIGURES: Final[dict[Mode, tuple[str, ...]]] = {
    "before": shapes.PROMPT,
    "cascade": (*shapes.PROMPT, *CASCADE),
}
"""The names of the figures of each mode."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What is known of n examples.

    Attributes:
        figures: float64 [n, f], in the order of `FIGURES`; all finite.
        starts: int64 [n + 1]; the terms of example i are those from `starts[i]` to `starts[i + 1]`.
        terms: int64, hashes of words and pairs of words, each once an example.
        counts: float64, 1 + log of how often the term occurs.
        categories: n names.
        vectors: float64 [n, d]; d is 0 where nothing encodes.
        probes: float64 [n, p], figures of hidden states; p is 0 where nobody tells any. NaN: not known.
    """

    figures: FloatArray
    starts: NDArray[np.int64]
    terms: NDArray[np.int64]
    counts: FloatArray
    categories: tuple[str, ...]
    vectors: FloatArray
    probes: FloatArray

    def __len__(self) -> int:
        return len(self.categories)

    def take(self, rows: NDArray[np.int64]) -> Features:
        """The examples of these row numbers."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Where an example's terms begin there, less where they begin here, and counted on from there.
        moved = np.repeat(self.starts[:-1][rows] - starts[:-1], lengths)
        chosen = np.arange(len(moved)) + moved
        return Features(
            self.figures[rows],
            starts,
            self.terms[chosen],
            self.counts[chosen],
            tuple(self.categories[int(i)] for i in rows),
            self.vectors[rows],
            self.probes[rows],
        )

    def without_categories(self) -> Features:
        """The same, as if no category were known."""
        return replace(self, categories=("",) * len(self))


@dataclass(frozen=True, slots=True)
class Seen:
    """One example as a router meets it.

    Attributes:
        answer, logprob, samples, probe: of the first endpoint; a router of mode *before* passes over them.
            The probe: hidden-state figures of the engine, as many for every example that has any.
    """

    prompt: str
    category: str = ""
    answer: str | None = None
    logprob: float = math.nan
    samples: tuple[str, ...] = ()
    probe: tuple[float, ...] = ()


def seen_in(outcomes: Outcomes, first: str) -> list[Seen]:
    """The examples of a table as a router meets them, with the answers of its first endpoint."""
    column = outcomes.column(first)
    return [
        Seen(
            outcomes.prompts[i],
            outcomes.categories[i],
            outcomes.answers[i][column],
            float(outcomes.logprobs[i, column]),
            outcomes.samples[i][column],
            outcomes.probes[i][column],
        )
        for i in range(len(outcomes))
    ]


def extract(examples: Sequence[Seen], mode: Mode, encode: Encode | None = None) -> Features:
    """What is known of these examples.

    Args:
        encode: makes vectors of prompts; None: no vectors.

    Raises:
        DataError: probes of several lengths.
    """
    figures = np.array([_figures(one, mode) for one in examples], np.float64)
    counted = [_terms(one, mode) for one in examples]
    nothing = np.zeros(0, np.int64)
    return Features(
        figures.reshape(len(examples), len(FIGURES[mode])),
        np.cumsum([0, *(len(terms) for terms, _ in counted)], dtype=np.int64),
        np.concatenate([nothing, *(terms for terms, _ in counted)]),
        1 + np.log(np.concatenate([nothing, *(often for _, often in counted)])),
        tuple(one.category for one in examples),
        encode([one.prompt for one in examples]) if encode else np.zeros((len(examples), 0)),
        _probes(examples, mode),
    )


def _probes(examples: Sequence[Seen], mode: Mode) -> FloatArray:
    lengths = {len(one.probe) for one in examples if one.probe} if mode == "cascade" else set[int]()
    if len(lengths) > 1:
        raise DataError(
            "The probes of these answers have different lengths: take those of one model."
        )
    length = next(iter(lengths), 0)
    unknown = (math.nan,) * length
    rows = [one.probe or unknown for one in examples] if length else []
    return np.array(rows, np.float64).reshape(len(examples), length)


def _figures(one: Seen, mode: Mode) -> list[float]:
    of_prompt = shapes.prompt(one.prompt)
    if mode == "before":
        return of_prompt
    return [
        *of_prompt,
        *shapes.answer(one.answer, one.prompt),
        *_confidence(one),
    ]


def _confidence(one: Seen) -> list[float]:
    """What the first endpoint's own probabilities and further answers say of its answer."""
    known = not math.isnan(one.logprob)
    if one.answer is None or not one.samples:
        return [float(known), one.logprob if known else 0.0, 0.0, 0.0, 0.0]
    first = said(one.answer)
    agree = sum(said(other) == first for other in one.samples) / len(one.samples)
    alike = sum(shared_words(one.answer, other) for other in one.samples) / len(one.samples)
    return [float(known), one.logprob if known else 0.0, 1.0, agree, alike]


def said(answer: str) -> tuple[str, float | None] | str:
    """What two answers must share to agree: the letter or number they end with, else all of the text."""
    found = ending(seen(answer))
    if found.letter:
        return found.letter, None
    return ("", found.number) if found.number is not None else answer.strip().lower()


def shared_words(one: str, other: str) -> float:
    """The share of the words of two texts that both have; 0 where there are none."""
    first, second = (frozenset(_TERM.findall(seen(text).lower())) for text in (one, other))
    return len(first & second) / max(1, len(first | second))


def _terms(one: Seen, mode: Mode) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hashes of words and pairs of words, each once, with how often they occur."""
    found = _hashed(one.prompt)
    if mode == "cascade" and one.answer is not None:
        found = np.concatenate([found, _hashed(one.answer) + _HALF])
    return np.unique(found, return_counts=True)


def _hashed(text: str) -> NDArray[np.int64]:
    words = _TERM.findall(seen(text).lower())[:_MAX_TERMS]
    hashes = np.fromiter(map(_hash, words), np.int64, len(words))
    pairs = (hashes[:-1] * _MIX + hashes[1:]) & _MASK
    return np.concatenate([hashes, pairs]) % _HALF


@lru_cache(maxsize=1 << 16)
def _hash(word: str) -> int:
    """Numbers by their length: which number it is says little."""
    return zlib.crc32(("0" * len(word) if word.isdigit() else word).encode("utf-8", "replace"))
