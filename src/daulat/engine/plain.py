"""From a checkpoint's tensors to a decoder or encoder in PyTorch, one matrix at a time.

Importing PyTorch takes longer than all else of a start together: who needs no such model does not import this.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from daulat.engine.decoder import Decoder
from daulat.engine.encoder import Encoder
from daulat.engine.loading import Progress, offset_norms, text_of, weight
from daulat.engine.tensors import tensor
from daulat.errors import ModelFileError
from daulat.models.checkpoint import Checkpoint
from daulat.models.numbers import Array
from daulat.models.weights import Weights
from daulat.values.architecture import EncoderArchitecture

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def compute_on(threads: int) -> None:
    """Have PyTorch compute with so many threads."""
    torch.set_num_threads(threads)


def load_decoder(
    checkpoint: Checkpoint,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Decoder:
    """Read every weight, convert it to `dtype`, and check that nothing is missing or left over.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = text_of(checkpoint)
    weights = Weights(checkpoint, architecture)
    count = len(architecture.layers)

    def convert(slots: Mapping[str, Array]) -> dict[str, Tensor]:
        # A copy even where the type is right: the file's pages must not be what we compute on, since
        # they can be taken from memory, or change under us, at any time.
        converted = {
            slot: tensor(weight(array)).to(dtype, copy=True).contiguous()
            for slot, array in slots.items()
        }
        offset_norms(converted, architecture)
        return converted

    top = convert(weights.top())
    blocks: list[dict[str, Tensor]] = []
    for i in range(count):
        blocks.append(convert(weights.block(i)))
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
