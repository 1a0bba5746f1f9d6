"""Choosing a token from logits: the same logits, sampling and seed give the same token, always.

One sequence at a time, in numpy, so that no choice depends on what else is in the batch. The order is that
of Hugging Face's logits processors and warpers: bias, repetition penalty, presence and frequency
penalties, temperature, top-k, min-p, top-p. One uniform number is drawn per token, whatever is chosen.

Not here: when an answer ends (`sequence`), stop strings (`stopping`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daulat.errors import ModelFileError
from daulat.values.request import Sampling

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen token with its natural-log probability under the raw logits, and the likeliest others.

    Attributes:
        logprob: 0.0 where log-probabilities were not asked for.
        top: (token, logprob), best first.
    """

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


def fresh_seed() -> int:
    """A seed for a request that brings none, from the system's randomness."""
    return int.from_bytes(os.urandom(8), "little") >> 1


class Sampler:
    """The randomness and the token counts of one answer.

    Args:
        seed, index: the answer's number among the `n` of one request; both fix the random stream.
        prompt: its tokens count for the repetition penalty.
    """

    def __init__(self, sampling: Sampling, seed: int, prompt: Sequence[int], index: int = 0) -> None:
        self._sampling = sampling
        key = np.array([seed & (2**64 - 1), index], dtype=np.uint64)
        self._random = np.random.Generator(np.random.Philox(key=key))
        self._counts: dict[int, int] = {}
        self._seen = set(prompt) if sampling.repetition_penalty != 1.0 else set[int]()

    def choose(self, logits: Floats) -> Choice:
        """The next token, counted as part of the answer.

        Args:
            logits: float32 [V]; left as they are.

        Raises:
            ModelFileError: the model gave a number that is not one.
        """
        if not np.isfinite(logits.max()) or np.isnan(logits.min()):
            raise ModelFileError("The model gave numbers that are not finite; its weights are broken.")
        token = self._pick(self._adjusted(logits))
        self._counts[token] = self._counts.get(token, 0) + 1
        if self._sampling.repetition_penalty != 1.0:
            self._seen.add(token)
        return self._scored(token, logits)

    def _adjusted(self, logits: Floats) -> Floats:
        """Bias and penalties; the input itself where there are none."""
        s = self._sampling
        penalised = bool(self._counts) and bool(s.presence_penalty or s.frequency_penalty)
        if not (s.logit_bias or self._seen or penalised):
            return logits
        out = logits.copy()
        for token, bias in s.logit_bias.items():
            if token < out.size:
                out[token] = -np.inf if bias <= -100 else out[token] + bias
        if self._seen:
            seen = np.fromiter(self._seen, dtype=np.int64)
            values = out[seen]
            factor = s.repetition_penalty
            out[seen] = np.where(values > 0, values / factor, values * factor)
        if penalised:
            for token, count in self._counts.items():
                out[token] -= s.presence_penalty + s.frequency_penalty * count
        return out

    def _pick(self, logits: Floats) -> int:
        s = self._sampling
        if s.temperature == 0.0:
            return int(logits.argmax())
        uniform = self._random.random()
        tokens, scores = self._candidates(logits)
        weights = np.exp((scores - scores[0]) / s.temperature)
        keep = int(np.searchsorted(-weights, -s.min_p, side="right")) if s.min_p else weights.size
        total = np.cumsum(weights[: max(keep, 1)])
        if s.top_p < 1.0:
            # The smallest set whose probability reaches top_p: the first that crosses it is in.
            total = total[: int(np.searchsorted(total, s.top_p * total[-1])) + 1]
        place = int(np.searchsorted(total, uniform * total[-1], side="right"))
        return int(tokens[min(place, total.size - 1)])

    def _candidates(self, logits: Floats) -> tuple[Ids, Doubles]:
        """Tokens that can be chosen, likeliest first, ties by token id, with their logits."""
        s = self._sampling
        if s.top_k and s.top_k < logits.size:
            # The k-th largest score; ties with it are all looked at, then cut in order of id.
            bound = np.partition(logits, -s.top_k)[-s.top_k]
        else:
            # What is this far below the best has no weight that float64 could add to the sum.
            bound = logits.max() - np.float32(45.0 * s.temperature)
        tokens = np.flatnonzero(logits >= bound)
        order = np.argsort(-logits[tokens], kind="stable")
        tokens = tokens[order][: s.top_k or None]
        return tokens, logits[tokens].astype(np.float64)

    def _scored(self, token: int, logits: Floats) -> Choice:
        wanted = self._sampling.logprobs
        if wanted is None:
            return Choice(token)
        scores = logits.astype(np.float64)
        scores -= scores.max()
        scores -= np.log(np.exp(scores).sum())
        top: tuple[tuple[int, float], ...] = ()
        if wanted:
            count = min(wanted, scores.size)
            bound = np.partition(scores, -count)[-count]
            best = np.flatnonzero(scores >= bound)
            best = best[np.argsort(-scores[best], kind="stable")][:count]
            top = tuple((int(i), float(scores[i])) for i in best)
        return Choice(token, float(scores[token]), top)
