"""An adapter in memory: small matrices that change the outcome of a model's own, for some rows of a step.

    y += B (A x)

for the rows of the sequences that have the adapter. Both decoders compute with the numbers held here, in
float32; the scale is in B.

Not here: files (`models.lora`), machine code (`engine.native.lora`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daulat.engine.native.vector import LANES


@dataclass(frozen=True, slots=True)
class Delta:
    """What changes rows `first` to `first + rows` of one slot.

    Attributes:
        a: [rank, inputs].
        b: B transposed, [rank, rows and zeros up to whole vectors]: machine code reads whole ones.
    """

    slot: str
    first: int
    rows: int
    a: Tensor
    b: Tensor

    @classmethod
    def of(cls, slot: str, first: int, a: Tensor, b: Tensor) -> Delta:
        """From A [rank, inputs] and B [rows, rank], float32."""
        rows = b.shape[0]
        wide = torch.zeros(b.shape[1], -(-rows // LANES) * LANES)
        wide[:, :rows] = b.T
        return cls(slot, first, rows, a.contiguous(), wide)

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Adapter:
    """All changes to one model.

    Attributes:
        digest: of its files; what tells it from others.
        layers: per block of the model, its changes.
    """

    digest: str
    layers: tuple[tuple[Delta, ...], ...]

    @property
    def held_bytes(self) -> int:
        """In memory."""
        return 4 * sum(d.a.numel() + d.b.numel() for layer in self.layers for d in layer)

    def change(self, layer: int, slot: str, x: Tensor, y: Tensor) -> None:
        """y += B (A x), for x [rows, inputs] and y [rows, outputs of the slot]."""
        for delta in self.layers[layer]:
            if delta.slot == slot:
                change = (x.float() @ delta.a.T) @ delta.b[:, : delta.rows]
                y[:, delta.first : delta.first + delta.rows] += change.to(y.dtype)


def change_rows(
    parts: Sequence[tuple[int, Adapter | None]], layer: int, slot: str, x: Tensor, y: Tensor
) -> None:
    """Apply each part's adapter to its rows: `parts` are (how many rows, whose adapter), in order."""
    start = 0
    for count, adapter in parts:
        if adapter is not None:
            rows = slice(start, start + count)
            adapter.change(layer, slot, x[rows], y[rows])
        start += count
