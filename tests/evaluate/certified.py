"""Outcomes with a truth in them, and a router that reads it off the prompt, for tests of certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daulat.canon import digest
from daulat.route.certificate import Mode
from daulat.route.learning.outcomes import FloatArray, Outcomes

OPEN, CLOSED = "small", "large"


def outcomes(
    scores: Any,
    prompts: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    answers: bool = True,
    costs: bool = True,
) -> Outcomes:
    """A table of the open and the closed endpoint."""
    table = np.asarray(scores, float)
    n = len(table)
    ids = tuple(f"e{i}" for i in range(n))
    unknown = np.full((n, 2), np.nan)
    return Outcomes(
        endpoints=(OPEN, CLOSED),
        ids=ids,
        prompts=tuple(prompts or (f"Question {i}?" for i in range(n))),
        answers=tuple((f"answer {i}" if answers else None, None) for i in range(n)),
        scores=table,
        costs=np.tile([0.001, 0.02], (n, 1)) if costs else unknown,
        seconds=unknown,
        categories=tuple(categories or [""] * n),
        clusters=tuple(clusters or ids),
        logprobs=unknown,
        samples=tuple(((), ()) for _ in range(n)),
        probes=tuple(((), ()) for _ in range(n)),
    )


def drawn(n: int, seed: int = 0, best: float = 0.9, graded: bool = False) -> Outcomes:
    """Prompts that say how hard they are: the harder, the more often the open endpoint alone is wrong."""
    random = np.random.default_rng(seed)
    hard = random.random(n)
    chance = np.c_[best * (1 - 0.7 * hard**2), np.full(n, best)]
    same = random.random((n, 1))  # what one gets right, the other mostly does
    scores = (np.where(random.random((n, 2)) < 0.7, same, random.random((n, 2))) < chance).astype(
        float
    )
    if graded:
        scores = np.clip(scores * random.uniform(0.5, 1, (n, 2)) + 0.1, 0, 1)
    prompts = [f"{seed}-{i} {one:.6f}" for i, one in enumerate(hard)]
    return outcomes(scores, prompts)


@dataclass(frozen=True)
class Reader:
    """A router that reads from the prompt how hard it is."""

    mode: Mode = "before"
    lowest: float = 0.0

    def digest(self) -> str:
        return digest(b"reader %f" % self.lowest)

    def gains(self, table: Outcomes) -> FloatArray:
        found = [float(prompt.split()[-1]) for prompt in table.prompts]
        return np.maximum(np.array(found), self.lowest)

    def stops(self) -> FloatArray:
        return np.linspace(self.lowest, 1, 101)


def read_off(_outcomes: Outcomes, _seed: int) -> Reader:
    """A fit that learns nothing: it need not."""
    return Reader()
