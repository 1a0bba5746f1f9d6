"""Between NumPy's arrays and PyTorch's tensors, in the same memory.

Only the plain way and the encoder compute with PyTorch, and only their modules import this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from daulat.models.numbers import Array

# What `torch.from_numpy` does not know, as whole numbers of the same width.
_BITS: Mapping[np.dtype[Any], tuple[type[np.generic], torch.dtype]] = {
    np.dtype(ml_dtypes.bfloat16): (np.int16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
}


def tensor(array: Array) -> Tensor:
    """The array's numbers."""
    bits, dtype = _BITS.get(array.dtype, (None, None))
    if bits is None or dtype is None:
        return torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType]
    return tensor(array.view(bits)).view(dtype)
