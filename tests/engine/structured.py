"""Answers to a structure without a model: random logits, the real tokenizer, sequence and sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daulat.engine.grammars import Grammar, Grammars
from daulat.engine.sequence import Ended, GenerationSequence, Outcome, TextPart
from daulat.models.tokenizer import Tokenizer
from daulat.values.request import Sampling, Structure


class Writer:
    """Writes answers by noise.

    Tokens that end strings, lists and objects are made likelier than others, for without that a
    string of noise has no end.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.size = tokenizer.vocab_size
        self.grammars = Grammars()
        texts = [tokenizer.token_bytes(token) for token in range(self.size)]
        self.closing = np.array(
            [7.0 if any(c in text for c in b'"]}') and len(text) < 3 else 0.0 for text in texts],
            np.float32,
        )
        self.closing[list(tokenizer.eos_ids)] = 9.0

    def grammar(self, structure: Structure | None, tools: Any = None) -> Grammar:
        return self.grammars.grammar("starter", self.tokenizer, structure, tools)

    def write(
        self,
        grammar: Grammar,
        seed: int,
        sampling: Sampling | None = None,
        limit: int = 1500,
        look: Callable[[GenerationSequence, NDArray[np.float32]], None] | None = None,
    ) -> tuple[str, Ended]:
        """One answer and how it ended."""
        said: list[Outcome] = []
        sampling = sampling or Sampling(temperature=2.0)
        sequence = GenerationSequence(
            [5],
            sampling,
            limit,
            seed,
            0,
            self.tokenizer,
            self.tokenizer.stream(keep_space=True, spelled=grammar.spelled),
            said.append,
            guide=self.grammars.guide("starter", self.tokenizer, self.size, grammar),
            until=grammar.until,
        )
        random = np.random.default_rng(seed)
        while not sequence.ended:
            logits = random.standard_normal(self.size, np.float32) * 3 + self.closing
            if look:
                look(sequence, logits)
            sequence.accept(1, logits)
        end = said[-1]
        assert isinstance(end, Ended)
        return "".join(part.text for part in said if isinstance(part, TextPart)), end
