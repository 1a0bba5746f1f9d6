"""How much memory a model takes, and how much there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import psutil
import torch

from daulat.engine.native.decoder import fits
from daulat.engine.native.matrices import held_bytes, kept_formats
from daulat.settings import Engine as EngineSettings
from daulat.values.architecture import Architecture, EncoderArchitecture

MIB = 1 << 20
_SHARE = 0.75
"""Of the machine's memory, what we may take by default: the rest is for everything else."""
_SMALL = 2 << 30

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Stored(Protocol):
    """A tensor's description; `size` in bytes."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def type(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Demand:
    """What one model needs, in bytes.

    Attributes:
        weights: as they will be held.
        token: key-value cache for one token; 0 for an embedding model.
        dtype: the number format of what is not held as it is stored.
        native: machine code computes it.
    """

    weights: int
    token: int
    dtype: torch.dtype
    native: bool = False


def allowance(setting_mib: int) -> int:
    """Bytes that models may take: the setting, or a share of the machine's (or container's) memory."""
    if setting_mib:
        return setting_mib * MIB
    return int(_SHARE * min(psutil.virtual_memory().total, _container_limit()))


def demand(
    architecture: Architecture | EncoderArchitecture,
    tensors: Mapping[str, Stored],
    settings: EngineSettings,
    allowed: int,
) -> Demand:
    """What a model will take.

    `auto` is float32 for small models, where it is exact and costs little, and bfloat16 for the rest,
    whose speed and size hang on the bytes.
    """
    elements = sum(prod(info.shape) for info in tensors.values())
    if isinstance(architecture, EncoderArchitecture):
        return Demand(4 * elements, 0, torch.float32)
    name = settings.dtype
    if name == "auto":
        small = 4 * elements <= min(_SMALL, allowed // 2)
        name = "float32" if small else "bfloat16"
    dtype = DTYPES[name]
    if settings.kernels == "auto" and fits(architecture):
        kept = kept_formats(dtype)
        weights = sum(
            held_bytes(info.type, prod(info.shape))
            if info.type in kept
            else dtype.itemsize * prod(info.shape)
            for info in tensors.values()
        )
        return Demand(weights, 4 * architecture.cache_elements, dtype, native=True)
    return Demand(dtype.itemsize * elements, dtype.itemsize * architecture.cache_elements, dtype)


def _container_limit() -> int:
    """The cgroup's memory limit in bytes; a number larger than any machine where there is none."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return 1 << 62
    return int(text) if text.isdigit() else 1 << 62
