"""How much memory a model takes, and how much there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import psutil

from daulat.engine.native.decoder import fits
from daulat.engine.native.matrices import (
    FLOATS,
    KNOWN,
    SPARE,
    Numbers,
    form_bytes,
    form_for,
    held_bytes,
    kept_formats,
)
from daulat.errors import UnsupportedModelError
from daulat.settings import Engine as EngineSettings
from daulat.values.architecture import Architecture, EncoderArchitecture

MIB = 1 << 20
_SHARE = 0.75
"""Of the machine's memory, what we may take by default: the rest is for everything else."""
_SMALL = 2 << 30
_EXACT = 512 << 20
"""Bytes of float weights that are read in some 20 ms for each token: quick enough as they are."""

_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2}
"""Of a number, in the types that the plain way computes in."""


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
        dtype: what the plain way computes in.
        native: machine code computes it.
        numbers: there, what becomes of matrices that are not held as they are stored.
    """

    weights: int
    token: int
    dtype: str
    native: bool = False
    numbers: Numbers = "float32"


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

    Raises:
        UnsupportedModelError: a number format is forced that this model or these kernels cannot have.
    """
    elements = sum(prod(info.shape) for info in tensors.values())
    if isinstance(architecture, EncoderArchitecture):
        return Demand(4 * elements, 0, "float32")
    if settings.kernels == "auto" and fits(architecture):
        numbers = _numbers(tensors, settings, allowed)
        weights = sum(_held(info, architecture, numbers) for info in tensors.values())
        token = 4 * architecture.cache_elements
        return Demand(weights, token, "float32", native=True, numbers=numbers)
    dtype = _plain_dtype(elements, settings, allowed)
    size = _BYTES[dtype]
    return Demand(size * elements, size * architecture.cache_elements, dtype)


def describe(need: Demand, tensors: Mapping[str, Stored]) -> str:
    """How a model's matrices are held, in the formats' own words: `int8`, `Q4_1, Q8_0`."""
    if not need.native:
        return need.dtype
    types = Counter[str]()
    for info in tensors.values():
        if len(info.shape) > 1:
            known = info.type in kept_formats(need.numbers)
            types[info.type if known else need.numbers] += prod(info.shape)
    return ", ".join(name for name, _count in types.most_common())


def _numbers(tensors: Mapping[str, Stored], settings: EngineSettings, allowed: int) -> Numbers:
    """What the settings say. `auto`: as stored while the floats are few, and 8 bits where they are many.

    Decoding reads every weight for every token, so many floats are slow; 8 bits cost a part of a per cent
    of perplexity (docs/benchmarks.md). Four bits cost more and are only taken when asked for.
    """
    if settings.dtype != "auto":
        return settings.dtype
    quantised = KNOWN.keys() - FLOATS.keys()
    floats = sum(
        held_bytes(info.type, prod(info.shape)) if info.type in FLOATS else 4 * prod(info.shape)
        for info in tensors.values()
        if len(info.shape) > 1 and info.type not in quantised
    )
    return "float32" if floats <= min(_EXACT, allowed // 2) else "int8"


def _held(info: Stored, a: Architecture, numbers: Numbers) -> int:
    """Bytes of a tensor in memory."""
    count = prod(info.shape)
    if info.type in kept_formats(numbers):
        return held_bytes(info.type, count)
    if len(info.shape) < 2:
        return 4 * count
    slot = "head" if info.shape[0] == a.vocab else ""
    if a.experts and info.shape == (a.experts.count, a.hidden):
        slot = "router"
    elif info.shape[-2:] == (a.hidden, a.intermediate):
        slot = "down"
    size = form_bytes(form_for(slot, numbers), count)
    # Which of the blocks' matrices have four bits is not known before they are measured.
    return size + int(SPARE * size) if numbers == "int4" and slot in ("", "down") else size


def _plain_dtype(elements: int, settings: EngineSettings, allowed: int) -> str:
    """`auto` is float32 for small models, where it is exact, and bfloat16 for the rest."""
    name = settings.dtype
    if name == "auto":
        small = 4 * elements <= min(_SMALL, allowed // 2)
        name = "float32" if small else "bfloat16"
    if name not in _BYTES:
        raise UnsupportedModelError(
            f'engine.dtype = "{name}" is for machine code, and this model is computed the plain way '
            '(engine.kernels = "plain", or its widths are not multiples of 32). '
            'Set engine.dtype = "auto".'
        )
    return name


def _container_limit() -> int:
    """The cgroup's memory limit in bytes; a number larger than any machine where there is none."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return 1 << 62
    return int(text) if text.isdigit() else 1 << 62
