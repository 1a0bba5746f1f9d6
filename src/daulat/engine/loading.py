"""From a checkpoint's tensors to a decoder in machine code, one matrix at a time, and adapters for it.

Not here: the plain way and embedding models (`plain`), which need PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daulat.engine import prepared
from daulat.engine.adapter import Adapter, Delta
from daulat.engine.native.decoder import NativeDecoder, Slots
from daulat.engine.native.matrices import Numbers, form_for, kept_formats, matrix
from daulat.errors import ModelFileError
from daulat.models.checkpoint import Checkpoint
from daulat.models.lora import LoraFile, Pair
from daulat.models.numbers import Array, Floats, float32, is_float
from daulat.models.shelf import Place
from daulat.models.weights import Weights
from daulat.values.architecture import Architecture

Progress = Callable[[int, int], None]


def load_native(
    checkpoint: Checkpoint,
    numbers: Numbers = "float32",
    threads: int = 1,
    progress: Progress | None = None,
    place: Place | None = None,
) -> NativeDecoder:
    """Read every weight and check that nothing is missing or left over; matrices stay in their file's format.

    Args:
        numbers: what becomes of matrices that do not.
        place: where the weights lie when they are ready, and are kept if they cost time to make.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = text_of(checkpoint)

    def read() -> prepared.Parts:
        return _read(checkpoint, architecture, numbers, threads, progress)

    costly = place is not None and prepared.cost(checkpoint.tensors, numbers) >= place.least
    top, blocks = prepared.fetch(place, architecture, read) if place and costly else read()
    decoder = NativeDecoder(architecture, top, blocks, threads)
    decoder.warm()
    return decoder


def _read(
    checkpoint: Checkpoint,
    architecture: Architecture,
    numbers: Numbers,
    threads: int,
    progress: Progress | None,
) -> prepared.Parts:
    weights = Weights(checkpoint, architecture, kept_formats(numbers))
    count = len(architecture.layers)
    top = _slots(weights.top(), weights, architecture, numbers, threads)
    blocks: list[Slots] = []
    for i in range(count):
        blocks.append(_slots(weights.block(i), weights, architecture, numbers, threads))
        if progress is not None:
            progress(i + 1, count)
    weights.finish()
    return top, blocks


def _slots(
    read: dict[str, Array],
    weights: Weights,
    architecture: Architecture,
    numbers: Numbers,
    threads: int,
) -> Slots:
    vectors = {slot: float32(weight(t)) for slot, t in read.items() if t.ndim == 1}
    offset_norms(vectors, architecture)
    matrices = {
        slot: matrix(
            t if slot in weights.stored else weight(t),
            weights.stored.get(slot),
            form_for(slot, numbers, t.dtype),
            threads,
        )
        for slot, t in read.items()
        if t.ndim > 1
    }
    return {**vectors, **matrices}


def load_adapter(lora: LoraFile, digest: str, layers: int) -> Adapter:
    """Read an adapter's matrices in float32.

    Args:
        layers: of the base.

    Raises:
        ModelFileError: they hold what is no number.
    """
    blocks: list[list[Delta]] = [[] for _ in range(layers)]
    for pair in lora.pairs:
        a, b = lora.read(pair)
        site = pair.site
        blocks[site.layer].append(Delta.of(site.slot, site.first, a, _in_our_order(b, pair)))
    return Adapter(digest, tuple(map(tuple, blocks)))


def _in_our_order(b: Floats, pair: Pair) -> Floats:
    """GPTBigCode's [heads, (q k v), D] rows become all q, all k, all v, as `weights` orders them."""
    heads = pair.site.heads
    if not heads:
        return b
    return b.reshape(heads, 3, -1, pair.rank).swapaxes(0, 1).reshape(b.shape)


def text_of(checkpoint: Checkpoint) -> Architecture:
    """What the model is.

    Raises:
        ModelFileError: it does not write text.
    """
    architecture = checkpoint.architecture
    if not isinstance(architecture, Architecture):
        raise ModelFileError(f"{checkpoint.name} is an embedding model; it does not write text.")
    return architecture


def weight(array: Array) -> Array:
    """The same.

    Raises:
        ModelFileError: it holds what is no weight.
    """
    if not is_float(array):
        raise ModelFileError(f"A weight of type {array.dtype} is not a number we can compute with.")
    return array


def offset_norms(vectors: dict[str, Any], architecture: Architecture) -> None:
    """Gemma stores its norms' weights less one."""
    if architecture.norm_offset:
        norms = {slot: held for slot, held in vectors.items() if slot.endswith("norm")}
        vectors.update({slot: held + architecture.norm_offset for slot, held in norms.items()})
