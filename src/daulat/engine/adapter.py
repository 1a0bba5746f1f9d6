"""An adapter in memory: small matrices that change the outcome of a model's own, for some rows of a step.

    y += B (A x)

for the rows of the sequences that have the adapter. Both decoders compute with the numbers held here, in
float32; the scale is in B.

Not here: files (`models.lora`), machine code (`engine.native.lora`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daulat.engine.native.vector import LANES
from daulat.models.numbers import Floats


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
    a: Floats
    b: Floats

    @classmethod
    def of(cls, slot: str, first: int, a: Floats, b: Floats) -> Delta:
        """From A [rank, inputs] and B [rows, rank], float32."""
        rows = b.shape[0]
        wide = np.zeros((b.shape[1], -(-rows // LANES) * LANES), dtype=np.float32)
        wide[:, :rows] = b.T
        return cls(slot, first, rows, np.ascontiguousarray(a), wide)

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
        return sum(d.a.nbytes + d.b.nbytes for layer in self.layers for d in layer)
