"""Texts to vectors by an embedding model of the catalogue, outside of any server: for fitting and replaying.

Not here: requests for embeddings (`native`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daulat.errors import RequestError
from daulat.models.catalogue import ModelEntry
from daulat.models.tokenizer import load_tokenizer
from daulat.values.architecture import EncoderArchitecture

_BATCH: Final = 32


def encoder(entry: ModelEntry, threads: int) -> Callable[[Sequence[str]], NDArray[np.float64]]:
    """A function from texts to vectors, [n, d]. Of a text that is too long, the beginning counts.

    Raises:
        RequestError: the model writes text.
    """
    from daulat.engine import plain  # noqa: PLC0415 - it brings PyTorch

    checkpoint = entry.open()
    architecture = checkpoint.architecture
    if not isinstance(architecture, EncoderArchitecture):
        raise RequestError(
            f"{entry.name} writes text; name an embedding model, such as all-MiniLM-L6-v2."
        )
    tokenizer = load_tokenizer(checkpoint)
    limit = min(checkpoint.input_limit or architecture.context, architecture.context)
    plain.compute_on(threads)
    model = plain.load_encoder(checkpoint)

    def encode(texts: Sequence[str]) -> NDArray[np.float64]:
        tokens = [_cut(tokenizer.encode(text, special=True), limit) for text in texts]
        out = np.zeros((len(tokens), architecture.hidden))
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for first in range(0, len(order), _BATCH):
            rows = order[first : first + _BATCH]
            out[rows] = model.embed([tokens[i] for i in rows]).numpy()
        return out

    return encode


def _cut(tokens: Sequence[int], limit: int) -> list[int]:
    """The first tokens with the one that ends every text."""
    return list(tokens) if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]]
