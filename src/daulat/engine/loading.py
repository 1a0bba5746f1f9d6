"""From a checkpoint's tensors to a decoder or encoder in memory, one matrix at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daulat.engine import prepared
from daulat.engine.adapter import Adapter, Delta
from daulat.engine.decoder import Decoder
from daulat.engine.encoder import Encoder
from daulat.engine.native.decoder import NativeDecoder, Slots
from daulat.engine.native.matrices import Numbers, form_for, kept_formats, matrix
from daulat.errors import ModelFileError
from daulat.models.checkpoint import Checkpoint
from daulat.models.lora import LoraFile, Pair
from daulat.models.shelf import Place
from daulat.models.weights import Weights
from daulat.values.architecture import Architecture, EncoderArchitecture

Progress = Callable[[int, int], None]


def load_decoder(
    checkpoint: Checkpoint,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Decoder:
    """Read every weight, convert it to `dtype`, and check that nothing is missing or left over.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = _text(checkpoint)
    weights = Weights(checkpoint, architecture)
    count = len(architecture.layers)
    top = {slot: _convert(t, dtype) for slot, t in weights.top().items()}
    _offset(top, ("norm",), architecture)
    blocks: list[dict[str, Tensor]] = []
    for i in range(count):
        block = {slot: _convert(t, dtype) for slot, t in weights.block(i).items()}
        _offset(block, tuple(slot for slot in block if slot.endswith("norm")), architecture)
        blocks.append(block)
        if progress is not None:
            progress(i + 1, count)
    weights.finish()
    return Decoder(architecture, top, blocks)


def load_native(
    checkpoint: Checkpoint,
    numbers: Numbers = "float32",
    threads: int = 1,
    progress: Progress | None = None,
    place: Place | None = None,
) -> NativeDecoder:
    """As `load_decoder`, for the decoder in machine code: matrices stay in their file's format.

    Args:
        numbers: what becomes of matrices that do not.
        place: where the weights lie when they are ready, and are kept if they cost time to make.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = _text(checkpoint)

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
    read: dict[str, Tensor],
    weights: Weights,
    architecture: Architecture,
    numbers: Numbers,
    threads: int,
) -> Slots:
    vectors = {slot: _convert(t, torch.float32) for slot, t in read.items() if t.dim() == 1}
    _offset(vectors, tuple(slot for slot in vectors if slot.endswith("norm")), architecture)
    matrices = {
        slot: matrix(
            _numbers(t),
            weights.stored.get(slot),
            form_for(slot, numbers, t.dtype),
            threads,
        )
        for slot, t in read.items()
        if t.dim() > 1
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


def _in_our_order(b: Tensor, pair: Pair) -> Tensor:
    """GPTBigCode's [heads, (q k v), D] rows become all q, all k, all v, as `weights` orders them."""
    heads = pair.site.heads
    if not heads:
        return b
    return b.reshape(heads, 3, -1, pair.rank).swapaxes(0, 1).reshape(b.shape)


def load_encoder(checkpoint: Checkpoint) -> Encoder:
    """Read an embedding model in float32.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = checkpoint.architecture
    if not isinstance(architecture, EncoderArchitecture):
        raise ModelFileError(f"{checkpoint.name} writes text; it is not an embedding model.")
    return Encoder(architecture, checkpoint)


def _text(checkpoint: Checkpoint) -> Architecture:
    architecture = checkpoint.architecture
    if not isinstance(architecture, Architecture):
        raise ModelFileError(f"{checkpoint.name} is an embedding model; it does not write text.")
    return architecture


def _numbers(tensor: Tensor) -> Tensor:
    """The tensor, unless it holds what is no weight (uint8: stored bytes)."""
    if not tensor.dtype.is_floating_point and tensor.dtype != torch.uint8:
        raise ModelFileError(
            f"A weight of type {tensor.dtype} is not a number we can compute with."
        )
    return tensor


def _convert(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.dtype.is_floating_point:
        raise ModelFileError(
            f"A weight of type {tensor.dtype} is not a number we can compute with."
        )
    # A copy even where the type is right: the file's pages must not be what we compute on, since
    # they can be taken from memory, or change under us, at any time.
    return tensor.to(dtype, copy=True).contiguous()


def _offset(weights: dict[str, Tensor], slots: tuple[str, ...], architecture: Architecture) -> None:
    """Gemma stores its norms' weights less one."""
    if architecture.norm_offset:
        for slot in slots:
            weights[slot] = weights[slot] + architecture.norm_offset
