"""How much memory a model takes, and how much there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Protocol

import psutil

from daulat.engine.device import Device, Missing
from daulat.engine.native.decoder import fits
from daulat.engine.native.matrices import (
    FLOATS,
    KNOWN,
    SPARE,
    Numbers,
    Shaped,
    form_bytes,
    form_for,
    held_bytes,
    kept_formats,
    short_cache,
)
from daulat.errors import UnavailableError, UnsupportedModelError
from daulat.settings import Engine as EngineSettings
from daulat.values.architecture import Architecture, EncoderArchitecture

MIB = 1 << 20
_SHARE = 0.75
"""Of the machine's memory, or of what is free on a device, what we may take by default: the rest is for
everything else, on a device for what a step holds while it is computed."""
_LEAST_TOKENS = 256
"""Less cache than this beside the weights would serve nobody."""
_SMALL = 2 << 30
_EXACT = 512 << 20
"""Bytes of float weights that are read in some 20 ms for each token: quick enough as they are."""

_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2}
"""Of a number, in the types that the plain way computes in."""


class Stored(Shaped, Protocol):
    """A tensor's description; `size` in bytes."""

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
        device: where the plain way computes it; None: on the processor.
        aside: why it is not computed on a device that is there, or seems to be.
    """

    weights: int
    token: int
    dtype: str
    native: bool = False
    numbers: Numbers = "float32"
    device: Device | None = None
    aside: str = ""

    @property
    def least(self) -> int:
        """Bytes with as much cache as there must be."""
        return self.weights + self.token * _LEAST_TOKENS


def allowance(setting_mib: int, device: Device | None = None) -> int:
    """Bytes that models may take: the setting, or a share of the machine's (or container's) memory, or of
    what was free on the device, which is also the most of it."""
    if device is not None:
        free = int(_SHARE * device.memory)
        return min(setting_mib * MIB, device.memory) if setting_mib else free
    if setting_mib:
        return setting_mib * MIB
    return int(_SHARE * min(psutil.virtual_memory().total, _container_limit()))


def choose(
    architecture: Architecture | EncoderArchitecture,
    tensors: Mapping[str, Stored],
    settings: EngineSettings,
    allowed: int,
    found: Device | Missing,
) -> Demand:
    """Where a model is computed, and what it will take there: on the device, as far as the settings and its
    memory allow. Embedding models stay on the processor.

    Args:
        allowed: bytes of the machine's memory.

    Raises:
        UnavailableError: the settings name the device, and it cannot be.
        UnsupportedModelError: see `demand`.
    """
    here = settings.device == "cpu" or isinstance(architecture, EncoderArchitecture)
    need = "" if here else _on_device(architecture, tensors, settings, found)
    if isinstance(need, Demand):
        return need
    if need and settings.device == "cuda":
        raise UnavailableError(
            f'engine.device = "cuda" cannot be: {need}. Or set engine.device = "auto", to compute on the '
            "processor where there is no device."
        )
    quiet = isinstance(found, Missing) and not found.driver
    return replace(demand(architecture, tensors, settings, allowed), aside="" if quiet else need)


def _on_device(
    architecture: Architecture | EncoderArchitecture,
    tensors: Mapping[str, Stored],
    settings: EngineSettings,
    found: Device | Missing,
) -> Demand | str:
    """What a model will take on the device, or why it cannot be there."""
    if isinstance(found, Missing):
        return found.why
    if settings.dtype in ("int8", "int4"):
        return f'engine.dtype = "{settings.dtype}" is for the processor; "auto" is for both'
    assert isinstance(architecture, Architecture)  # noqa: S101 - `choose` has looked
    dtype = "float32" if settings.dtype == "float32" else "bfloat16"
    size = _BYTES[dtype]
    elements = sum(prod(info.shape) for info in tensors.values())
    need = Demand(size * elements, size * architecture.cache_elements, dtype, device=found)
    allowed = allowance(settings.memory, found)
    if need.least > allowed:
        return (
            f"the model needs {need.least // MIB} MiB of the memory of {found.name}, and "
            f"{allowed // MIB} MiB may be taken (engine.memory); a smaller model would fit"
        )
    return need


def demand(
    architecture: Architecture | EncoderArchitecture,
    tensors: Mapping[str, Stored],
    settings: EngineSettings,
    allowed: int,
) -> Demand:
    """What a model will take on the processor.

    Raises:
        UnsupportedModelError: a number format is forced that this model or these kernels cannot have.
    """
    elements = sum(prod(info.shape) for info in tensors.values())
    if isinstance(architecture, EncoderArchitecture):
        return Demand(4 * elements, 0, "float32")
    if settings.kernels == "auto" and fits(architecture):
        numbers = _numbers(tensors, settings, allowed)
        weights = sum(_held(info, architecture, numbers) for info in tensors.values())
        head = architecture.head_dim
        short = short_cache(tensors.values(), head, numbers, settings.inputs)
        token = (2 if short else 4) * architecture.cache_elements
        return Demand(weights, token, "float32", native=True, numbers=numbers)
    dtype = _plain_dtype(elements, settings, allowed)
    size = _BYTES[dtype]
    return Demand(size * elements, size * architecture.cache_elements, dtype)


def describe(need: Demand, tensors: Mapping[str, Stored], reads_as_it_writes: bool = True) -> str:
    """How a model's matrices are held, in the formats' own words: `int8`, `Q4_1, Q8_0`.

    Args:
        reads_as_it_writes: else prompts are read by matrix units, which is said too.
    """
    if not need.native:
        return need.dtype
    types = Counter[str]()
    for info in tensors.values():
        if len(info.shape) > 1:
            known = info.type in kept_formats(need.numbers)
            types[info.type if known else need.numbers] += prod(info.shape)
    held = ", ".join(name for name, _count in types.most_common())
    return held if reads_as_it_writes else f"{held}; prompts: bfloat16 (AMX)"


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
