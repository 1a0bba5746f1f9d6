"""From logits to a token: one sequence, one token at a time.

The order is that of vLLM (`v1/sample/sampler.py`): logit_bias; repetition, then frequency and
presence penalties; temperature; min_p and top_k, which commute; top_p over what is left. Hugging
Face runs the same warpers with min_p behind top_p. What a grammar or a ban excludes is excluded
ahead of the temperature, whatever bias and penalties did.

The same seed, index, logits and rules give the same token: a counter-based generator (Philox) keyed by
seed and index gives numbers, each of which picks from the distribution in order of token id.
Nothing depends on what else is in the batch.

To find all that a grammar allows takes up to a hundred times as long as to ask about one token. So
the model's own tokens are drawn first, and the first that is allowed, and left by top_k, min_p and
top_p, is taken: by rejection (J. von Neumann, "Various techniques used in connection with random
digits", 1951) a draw from those. After a few refusals all of them are found, which leaves the
distribution as it is.

Not here: bounds on parameters (`server.wire`), which token ends an answer (`sequence`).
Shapes: V vocabulary.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daulat.engine.logprobs import require_finite, score_rows
from daulat.engine.truncation import Doubles, Ids, Ranked, leaves, left, truncates, weights
from daulat.errors import RequestError
from daulat.models.numbers import Floats
from daulat.values.request import Sampling

Mask = NDArray[np.bool_]

_MASK_64 = 2**64 - 1
_HARD_BIAS = 100.0
_PROPOSALS = 4
_NEVER = np.float32(-np.inf)


@dataclass(frozen=True, slots=True)
class Choice:
    """One token.

    Attributes:
        logprob: its natural-log probability by the raw logits, before bias, penalties and
            temperature; NaN where log-probabilities were not asked for.
        top: the likeliest tokens with theirs, best first, the lower id first among equals.
    """

    token: int
    logprob: float = math.nan
    top: tuple[tuple[int, float], ...] = ()


class Rules(Protocol):
    """What may come next (`guide`)."""

    def allows(self, token: int) -> bool: ...
    def allowed(self) -> Mask: ...


def fresh_seed() -> int:
    """A seed from the operating system. 53 bits, so that any reader of JSON keeps it exactly."""
    return int.from_bytes(os.urandom(8), "big") >> 11


class Sampler:
    """Chooses the tokens of one answer.

    Args:
        seed: any integer; what counts is its value modulo 2**64.
        prompt: token ids, for the repetition penalty.
        index: which of the n answers; each has its own stream of numbers.
    """

    def __init__(
        self, sampling: Sampling, seed: int, prompt: Sequence[int], index: int = 0
    ) -> None:
        self._sampling = sampling
        self._bias = _Bias(sampling.logit_bias) if sampling.logit_bias else None
        self._penalties = _Penalties(sampling, prompt) if _penalised(sampling) else None
        key = np.array([seed & _MASK_64, index], dtype=np.uint64)
        self._random = np.random.Philox(key=key)

    def choose(self, logits: Floats, rules: Rules | None = None) -> Choice:
        """The next token for logits [V], which are not changed.

        Args:
            rules: which tokens a grammar allows, at least one; None: all.

        Raises:
            ModelFileError: a logit is not a finite number.
            RequestError: `logit_bias` names a token that the model does not have, or bans all
                that are allowed.
        """
        require_finite(logits)
        token = self._chosen(logits, rules)
        if self._penalties is not None:
            self._penalties.count(token)
        if self._sampling.logprobs is None:
            return Choice(token)
        return _scored(token, logits, self._sampling.logprobs)

    def _chosen(self, logits: Floats, rules: Rules | None) -> int:
        logits = self._adjusted(logits)
        return self._free(logits) if rules is None else self._held(logits, rules)

    def _free(self, logits: Floats) -> int:
        """A token of any."""
        s = self._sampling
        if s.temperature == 0:
            return int(np.argmax(logits))  # the lowest id among equals
        # What top_k leaves is found as soon as one token is judged.
        if s.top_p < 1 and s.top_k == 0:
            found = weights(logits, s.temperature)
            cumulative = np.cumsum(found)
            for _ in range(_PROPOSALS):
                token = self._drawn(cumulative)
                if leaves(found, cumulative[-1], token, s):
                    return token
        ids, found = left(logits, s)
        place = self._drawn(np.cumsum(found))
        return place if ids is None else int(ids[place])

    def _held(self, logits: Floats, rules: Rules) -> int:
        """A token that is allowed."""
        s = self._sampling
        if s.temperature == 0:
            token = int(np.argmax(logits))
            return token if rules.allows(token) else self._allowed(logits, rules)
        found = weights(logits, s.temperature)
        cumulative = np.cumsum(found)
        ranked = Ranked(found, cumulative[-1], s, rules.allows)
        judge = ranked.leaves if truncates(s) else rules.allows
        for _ in range(_PROPOSALS):
            token = self._drawn(cumulative)
            answer = judge(token)
            if answer is None:
                return self._judged(token, logits, rules)
            if answer:
                return token
        return self._allowed(logits, rules)

    def _judged(self, token: int, logits: Floats, rules: Rules) -> int:
        """A token that is allowed, if it is left, else another: what is hard to judge is not passed over."""
        ids = np.flatnonzero(rules.allowed())
        kept = logits[ids]
        place = int(np.searchsorted(ids, token))
        found = weights(kept, self._sampling.temperature)
        if leaves(found, found.sum(), place, self._sampling):
            return token
        return int(ids[self._free(kept)])

    def _allowed(self, logits: Floats, rules: Rules) -> int:
        """A token from among those that are allowed, of which there often are few."""
        ids = np.flatnonzero(rules.allowed())
        kept = logits[ids]
        if kept.max() == _NEVER:
            raise RequestError(
                "logit_bias bans every token that the structure allows here; change one of them.",
                param="logit_bias",
            )
        return int(ids[self._free(kept)])

    def _adjusted(self, logits: Floats) -> Floats:
        if self._bias is None and self._penalties is None:
            return logits
        adjusted = logits.copy()
        if self._bias is not None:
            self._bias.add(adjusted)
        if self._penalties is not None:
            self._penalties.apply(adjusted)
        # Bans come last: they hold whatever the penalties did.
        return adjusted if self._bias is None else self._bias.restrict(adjusted)

    def _drawn(self, cumulative: Doubles) -> int:
        """Inverse of the cumulative distribution, by 53 random bits."""
        raw: int = self._random.random_raw()
        uniform = (raw >> 11) * 2.0**-53
        # uniform < 1: the product is below the last entry, and a token of weight 0 is never found.
        wanted = uniform * float(cumulative[-1])
        return int(np.searchsorted(cumulative, wanted, side="right"))


def _scored(token: int, logits: Floats, count: int) -> Choice:
    """The choice with log-probabilities."""
    found = score_rows(logits[None], np.array([[token]]), count)
    return Choice(token, float(found.logprobs[0, 0]), found.tops[0])


class _Bias:
    """OpenAI's logit_bias: added to the logits; -100 is a ban and 100 an exclusive selection."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        soft = {i: b for i, b in bias.items() if abs(b) < _HARD_BIAS}
        self._ids = np.array(list(soft), dtype=np.intp)
        self._values = np.array(list(soft.values()), dtype=np.float32)
        self._banned = np.array([i for i, b in bias.items() if b <= -_HARD_BIAS], dtype=np.intp)
        self._forced = np.array([i for i, b in bias.items() if b >= _HARD_BIAS], dtype=np.intp)
        self._lowest, self._highest = min(bias), max(bias)

    def add(self, logits: Floats) -> None:
        """Change logits [V] in place, by all but bans and selections."""
        if self._lowest < 0 or self._highest >= len(logits):
            wrong = self._lowest if self._lowest < 0 else self._highest
            raise RequestError(
                f"logit_bias names token {wrong}; the model has tokens 0 to {len(logits) - 1}.",
                param="logit_bias",
            )
        logits[self._ids] += self._values

    def restrict(self, logits: Floats) -> Floats:
        """The logits with minus infinity for what is banned or not selected."""
        if len(self._forced):
            only = np.full_like(logits, -np.inf)
            only[self._forced] = logits[self._forced]
            return only
        logits[self._banned] = -np.inf
        if len(self._banned) == len(logits):
            raise RequestError(
                "logit_bias bans every token; leave at least one.", param="logit_bias"
            )
        return logits


def _penalised(sampling: Sampling) -> bool:
    return (
        sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
        or sampling.repetition_penalty != 1
    )


class _Penalties:
    """Counts of the answer's tokens, and which tokens prompt and answer have."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._presence = sampling.presence_penalty
        self._frequency = sampling.frequency_penalty
        self._repetition = sampling.repetition_penalty
        self._seen = np.unique(np.array(prompt, dtype=np.intp))
        self._known = set(prompt)
        self._place: dict[int, int] = {}
        self._ids = np.zeros(0, dtype=np.intp)
        self._counts = np.zeros(0, dtype=np.float64)

    def count(self, token: int) -> None:
        """The answer has one more token."""
        if token not in self._known:
            self._known.add(token)
            self._seen = np.append(self._seen, token)
        place = self._place.setdefault(token, len(self._ids))
        if place == len(self._ids):
            self._ids = np.append(self._ids, token)
            self._counts = np.append(self._counts, 0.0)
        self._counts[place] += 1

    def apply(self, logits: Floats) -> None:
        """Change logits [V] in place."""
        if self._repetition != 1:
            # CTRL (arXiv 1909.05858), with Hugging Face's rule for negative logits; once per token.
            seen = logits[self._seen].astype(np.float64)
            _store(
                logits,
                self._seen,
                np.where(seen > 0, seen / self._repetition, seen * self._repetition),
            )
        # OpenAI: logit - count * frequency_penalty - (count > 0) * presence_penalty.
        cost = self._counts * self._frequency + self._presence
        _store(logits, self._ids, logits[self._ids].astype(np.float64) - cost)


def _store(logits: Floats, ids: Ids, values: Doubles) -> None:
    most = np.finfo(np.float32).max
    logits[ids] = np.clip(values, -most, most)  # absurd penalties do not make infinities
