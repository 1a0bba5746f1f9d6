"""Matrices of random numbers in every format, beside the numbers that they hold."""

from __future__ import annotations

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import quants

from daulat.engine.native.matrices import Matrix, matrix
from daulat.engine.native.repack import KINDS

COLUMNS = 512


def random_matrix(form: str, rows: int) -> tuple[Matrix, np.ndarray]:
    """A matrix, and the numbers that the `gguf` package says it holds."""
    random = np.random.default_rng(rows)
    if form in KINDS:
        # The package cannot write these: any bytes are a block, with scales of an ordinary size.
        size, _, place, _ = KINDS[form]
        raw = random.integers(0, 256, (rows, COLUMNS // 256, size), dtype=np.uint8)
        count = (place.stop - place.start) // 2
        scales = random.uniform(-0.01, 0.01, (rows, COLUMNS // 256, count)).astype(np.float16)
        raw[:, :, place] = scales.view(np.uint8)
        raw = raw.reshape(rows, -1)
    else:
        numbers = random.standard_normal((rows, COLUMNS), dtype=np.float32)
        raw = quants.quantize(numbers, Kind[form])
    stored = np.ascontiguousarray(raw).view(np.uint8)
    exact = quants.dequantize(raw, Kind[form]).astype(np.float32).reshape(rows, COLUMNS)
    return matrix(stored, form), exact
