"""From a checkpoint's tensors to a decoder or encoder in memory, one matrix at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daulat.engine.decoder import Decoder
from daulat.engine.encoder import Encoder
from daulat.errors import ModelFileError
from daulat.models.checkpoint import Checkpoint
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
    architecture = checkpoint.architecture
    if not isinstance(architecture, Architecture):
        raise ModelFileError(f"{checkpoint.name} is an embedding model; it does not write text.")
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


def load_encoder(checkpoint: Checkpoint) -> Encoder:
    """Read an embedding model in float32.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = checkpoint.architecture
    if not isinstance(architecture, EncoderArchitecture):
        raise ModelFileError(f"{checkpoint.name} writes text; it is not an embedding model.")
    return Encoder(architecture, checkpoint)


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
