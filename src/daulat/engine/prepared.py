"""A decoder's weights as they lie in memory, kept in a file and mapped from it at the next start.

The numbers of a file decide only what is computed, never where memory is read: every shape is compared with the
architecture first.

Not here: the file's life and its checks (`models.shelf`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np

from daulat.engine.native.decoder import Slots
from daulat.engine.native.matrices import FORM_NAMES, Matrix, Numbers, kept_formats
from daulat.engine.native.panels import FORMS
from daulat.engine.native.repack import KINDS
from daulat.engine.native.vector import BLOCK, LANES
from daulat.errors import ModelFileError
from daulat.models.mapped import TensorInfo
from daulat.models.numbers import Array
from daulat.models.safetensors import SafetensorsFile
from daulat.models.shelf import Place, Stored
from daulat.models.weights import block_shapes, top_shapes
from daulat.values.architecture import Architecture

Parts = tuple[Slots, Sequence[Slots]]
"""The slots outside the blocks, and those of each block."""


def cost(tensors: Mapping[str, TensorInfo], numbers: Numbers) -> int:
    """Bytes of stored matrices that must be computed with to be ready, and not only copied."""
    kept = kept_formats(numbers) - KINDS.keys()
    return sum(i.size for i in tensors.values() if len(i.shape) > 1 and i.type not in kept)


def fetch(place: Place, architecture: Architecture, make: Callable[[], Parts]) -> Parts:
    """The prepared weights; made, and kept for the next time, where there are none.

    Raises:
        ModelFileError: what `make` raises.
    """
    found = _open(place, architecture)
    if found is None:
        with place.lock():
            # Another process may have made them while we waited.
            found = _open(place, architecture) or _make(place, architecture, make)
    return found


def _make(place: Place, architecture: Architecture, make: Callable[[], Parts]) -> Parts:
    made = make()
    named = dict(_named(made))
    forms = {n: FORM_NAMES[held.form] for n, held in named.items() if isinstance(held, Matrix)}
    # Vectors first, so that their numbers are aligned.
    order = sorted(named, key=lambda name: name in forms)
    tensors = [_stored(name, named[name]) for name in order]
    if not place.write(tensors, {"forms": json.dumps(forms)}):
        return made
    return _open(place, architecture) or made


def _named(parts: Parts) -> Iterator[tuple[str, Matrix | Array]]:
    top, blocks = parts
    yield from top.items()
    for i, block in enumerate(blocks):
        yield from ((f"{i}.{slot}", held) for slot, held in block.items())


def _stored(name: str, held: Matrix | Array) -> Stored:
    array = np.ascontiguousarray(held.data if isinstance(held, Matrix) else held)
    data = array.data.cast("B")
    return Stored(name, "U8" if isinstance(held, Matrix) else "F32", array.shape, data)


def _open(place: Place, architecture: Architecture) -> Parts | None:
    metadata = place.look()
    if metadata is None:
        return None
    try:
        return _parts(place.path, metadata, architecture)
    except (ModelFileError, ValueError, KeyError, TypeError) as error:
        place.discard(str(error))
        return None


def _parts(path: Path, metadata: Mapping[str, str], a: Architecture) -> Parts:
    file = SafetensorsFile(path)
    forms = {name: FORM_NAMES.index(form) for name, form in json.loads(metadata["forms"]).items()}

    def slots(prefix: str, shapes: Iterator[tuple[str, tuple[int, ...]]]) -> Slots:
        found: dict[str, Matrix | Array] = {}
        for slot, shape in shapes:
            bare = slot.removeprefix("expert_")
            left.discard(prefix + bare)
            found[bare] = _held(file, prefix + bare, forms, shape)
            bias = f"{bare}.bias"
            if prefix + bias in left:
                left.discard(prefix + bias)
                found[bias] = _held(file, prefix + bias, forms, shape[:1])
        return found

    left = set(file.tensors)
    top = slots("", top_shapes(a))
    blocks = [slots(f"{i}.", block_shapes(a)) for i in range(len(a.layers))]
    if left:
        raise ModelFileError(f"{len(left)} tensors belong to nothing")
    return top, blocks


def _held(
    file: SafetensorsFile, name: str, forms: Mapping[str, int], shape: tuple[int, ...]
) -> Matrix | Array:
    tensor = file.read(name)
    if len(shape) == 1:
        if tensor.dtype != np.float32 or tensor.shape != shape:
            raise ModelFileError(f"{name} is not a vector of {shape[0]}")
        return tensor
    form, rows = forms[name], prod(shape[:-1])
    panels, width = -(-rows // LANES), shape[-1] // BLOCK * FORMS[form].size
    if tensor.dtype != np.uint8 or tensor.shape != (panels, width) or shape[-1] % BLOCK:
        raise ModelFileError(f"{name} is not a matrix of {panels} panels of {width} bytes")
    return Matrix(tensor, form, rows, shape[-1])
