"""How the engine's tests use the machine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from daulat.engine.loading import load_native
from daulat.engine.native.decoder import NativeDecoder
from daulat.engine.plain import load_decoder
from tests.engine.places import Place, place_of

EXACT = 1e-4
"""How far logits may be from the oracle's where everything is computed in float32."""
ROUNDED = 5e-3
"""And where all inputs become 16-bit steps (`engine.native.panels`): the tiny models, whose logits reach 5."""


def tolerance(decoder: Any) -> float:
    """For a decoder of weights that a file holds, or that were prepared, in few bits."""
    return ROUNDED if isinstance(decoder, NativeDecoder) else EXACT


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For matrices of a few hundred numbers a second thread only costs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


WAYS: dict[str, Callable[..., Any]] = {
    "plain": load_decoder,
    "native": functools.partial(load_native, inputs="int16"),
}


@pytest.fixture(scope="module", params=[*WAYS, "cuda"])
def load(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """All ways to compute: PyTorch's, on a CUDA device too, and machine code; that with inputs of 16 bits, so
    that nothing but arithmetic that is wrong moves logits far. What 8 bits do is in `test_native` and
    `test_starter`."""
    if request.param == "cuda":
        return functools.partial(load_decoder, device=place_of("cuda").device)
    return WAYS[request.param]


@pytest.fixture(scope="module", params=["processor", "captured", "cuda"])
def place(request: pytest.FixtureRequest) -> Place:
    """Where PyTorch computes."""
    return place_of(request.param)
