"""What this machine can do, for shares of it: GB/s read, float32 and bfloat16 products in GFLOP/s."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def read_rate() -> float:
    """GB/s that all cores together read from memory, one after the other."""
    import torch

    data = torch.ones(1 << 28)
    return data.numel() * 4 / _best(data.sum) / 1e9


def limits() -> dict[str, float]:
    import torch

    found = {"read_gb_per_s": read_rate()}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = torch.ones(2048, 2048, dtype=dtype), torch.ones(2048, 2048, dtype=dtype)
        found[f"{name}_gflop_per_s"] = 2 * 2048**3 / _best(lambda a=a, b=b: a @ b) / 1e9
    return {name: round(value, 1) for name, value in found.items()}


def _best(work: Callable[[], Any], rounds: int = 7) -> float:
    def once() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return min(once() for _ in range(rounds))
