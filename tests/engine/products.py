"""Products as the program calls for them, of matrices and inputs of a test."""

from __future__ import annotations

import numpy as np
from numba import njit

from daulat.engine.native.matrices import Matrix
from daulat.engine.native.panels import GROUP
from daulat.engine.native.vector import call


@njit
def _multiply(numbers, x, groups, y, rows):
    address, panel_bytes, group_bytes, multiply, _, pack = numbers
    blocks, at = x.shape[1] // 32, groups.ctypes.data
    for m in range(x.shape[0]):
        group = at + m // GROUP * blocks * group_bytes
        call(pack, x[m].ctypes.data, blocks, group, m % GROUP, 0, 0, 0, 0, 0)
    to, inputs = y.ctypes.data, x.shape[0]
    call(multiply, address, panel_bytes, blocks, at, to, y.shape[1] * 4, inputs, rows, 0)


def times(
    held: Matrix, fine: bool, x: np.ndarray, y: np.ndarray, rows: int, first: int = 0
) -> None:
    """y[:, :rows] = x times the rows from `first` on, a multiple of 16."""
    address, panel_bytes, group_bytes, *functions = held.numbers(fine)[:6]
    groups = np.empty(-(-len(x) // GROUP) * (x.shape[1] // 32) * group_bytes, dtype=np.uint8)
    address += first // 16 * panel_bytes
    _multiply((address, panel_bytes, group_bytes, *functions), x, groups, y, rows)
