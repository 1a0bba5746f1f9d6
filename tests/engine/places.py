"""Where PyTorch's decoder is tested: on the processor, there with captured steps, and on a CUDA device.

A step is captured on the processor by tracing: what is left is a program of tensor operations, in which
every number and address that Python worked out is as fixed as in a CUDA graph, and which cannot be made where
the processor would have to look at what was computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from daulat.engine.device import Missing, find_device
from daulat.engine.graphs import Capture, CudaGraphs, Replay


@dataclass(frozen=True)
class Place:
    """Attributes:
    device: PyTorch's word for it.
    """

    device: str
    capture: Capture | None


def place_of(name: str) -> Place:
    if name != "cuda":
        return Place("cpu", traced if name == "captured" else None)
    found = find_device()
    if isinstance(found, Missing):
        pytest.skip(f"no CUDA device: {found.why}")
    return Place(found.place, CudaGraphs())


def traced(compute: Callable[[], Tensor]) -> Replay:
    """The work as it is now, without the Python that made it; its result lies where it lay the last time."""
    program = make_fx(compute)()
    out: list[Tensor] = []

    def replay() -> Tensor:
        found = program()
        if not out:
            out.append(torch.empty_like(found))
        return out[0].copy_(found)

    return replay
