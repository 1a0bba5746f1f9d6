"""The number types of tensor files as NumPy has them, and all of them as float32.

bfloat16 and the two float8 types are those of `ml_dtypes`; NumPy has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]

FLOATS: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
WHOLE: Mapping[str, np.dtype[Any]] = {
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
}
_FLOATS = frozenset(FLOATS.values())


def is_float(array: Array) -> bool:
    """Whether its numbers are floats of a type that files have."""
    return array.dtype in _FLOATS


def float32(array: Array) -> Floats:
    """A copy with the last dimension contiguous; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, order="C")
