"""How the engine's tests use the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from daulat.engine.loading import load_decoder, load_native


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For matrices of a few hundred numbers a second thread only costs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


WAYS: dict[str, Callable[..., Any]] = {"plain": load_decoder, "native": load_native}


@pytest.fixture(scope="module", params=list(WAYS))
def load(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Both ways to compute: PyTorch's, and machine code."""
    return WAYS[request.param]
