"""Steps that only write, one token for each sequence, in a few shapes; the work of each is captured once.

A model's step is some hundred short calls, and a device waits longer for the calls than it computes. A CUDA
graph holds them all, with the addresses and shapes that they had, and is started by one call. So such a step
is padded to the next shape and its numbers are copied to where the shape's graph reads them.

Whatever follows from the numbers themselves must be computed by tensors: Python does not run again.
`CudaGraphs` is the only code of the engine that no test without a CUDA device runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from daulat.engine.batch import Batch
from daulat.engine.pages import Pages

Replay = Callable[[], Tensor]
"""Computes anew from what the tensors of the captured work hold now, into the same place each time."""
Capture = Callable[[Callable[[], Tensor]], Replay]

FEWEST_BLOCKS: Final = 8
_ONE_AT_A_TIME: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Shape:
    """Attributes:
    batch: the tensors that its work reads.
    """

    batch: Batch
    replay: Replay


class Graphs:
    """The shapes of the steps of one memory's sequences.

    Args:
        pages: steps of sequences elsewhere are not taken.
    """

    def __init__(self, pages: Pages, capture: Capture) -> None:
        self._pages = pages
        self._capture = capture
        self._shapes: dict[tuple[int, int], Shape] = {}

    def take(self, batch: Batch) -> bool:
        """Whether a step is of this kind: one part, one row a sequence, no adapters."""
        part = batch.parts[0]
        single = len(batch.parts) == 1 and len(part.tables) == len(batch.tokens)
        return single and part.pages is self._pages and not batch.changes

    def run(self, batch: Batch, device: torch.device, compute: Callable[[Batch], Tensor]) -> Tensor:
        """`compute` on a step of this kind, made on the processor; good until the next one."""
        size = next_power(len(batch.tokens))
        width = max(FEWEST_BLOCKS, next_power(batch.parts[0].tables.shape[1]))
        padded = batch.padded(size, width)
        shape = self._shapes.get((size, width))
        if shape is None:
            own = padded.each(lambda one: one.to(device, copy=True))
            shape = Shape(own, self._capture(lambda: compute(own)))
            self._shapes[size, width] = shape
        for held, new in zip(shape.batch.tensors(), padded.tensors(), strict=True):
            held.copy_(new)
        return shape.replay()[: len(batch.tokens)]


def next_power(count: int) -> int:
    """The least power of two that is not less."""
    return 1 << (count - 1).bit_length()


class CudaGraphs:
    """Captures for one model. Its graphs share their room, since one step is done before the next begins."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], Tensor]) -> Replay:
        # First as it is: libraries prepare themselves, and that may not be captured. It writes what the
        # replay will write again.
        side = torch.cuda.Stream()
        graph = torch.cuda.CUDAGraph()
        with _ONE_AT_A_TIME:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                compute()
            torch.cuda.current_stream().wait_stream(side)
            # Another model's thread may use the device meanwhile, hence not "global".
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                out = compute()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay
