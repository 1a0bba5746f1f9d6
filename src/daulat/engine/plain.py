"""From a checkpoint's tensors to a decoder or encoder in PyTorch, one matrix at a time; a decoder on a device.

Importing PyTorch takes longer than all else of a start together: who needs no such model does not import this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping

import torch
from torch import Tensor

from daulat.engine.decoder import Decoder
from daulat.engine.encoder import Encoder
from daulat.engine.graphs import Capture, CudaGraphs
from daulat.engine.loading import Progress, offset_norms, text_of, weight
from daulat.engine.step import Chunk
from daulat.engine.tensors import tensor
from daulat.errors import ModelFileError, UnavailableError, UnsupportedModelError
from daulat.models.checkpoint import Checkpoint
from daulat.models.numbers import Array
from daulat.models.weights import Weights
from daulat.values.architecture import Architecture, EncoderArchitecture

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


_GROUPED = 8
"""What PyTorch's product by groups takes whole multiples of: 16 bytes of bfloat16."""


def compute_on(threads: int) -> None:
    """Have PyTorch compute with so many threads."""
    torch.set_num_threads(threads)


def load_decoder(
    checkpoint: Checkpoint,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    device: str = "cpu",
    capture: Capture | None = None,
) -> Decoder:
    """Read every weight, convert it to `dtype`, and check that nothing is missing or left over.

    Args:
        device: PyTorch's word for where it is computed.
        capture: see `Decoder`; on a CUDA device it has one without being asked.

    Raises:
        ModelFileError: the files do not hold what their description says.
        UnsupportedModelError: it has experts of a width that PyTorch cannot group.
    """
    architecture = text_of(checkpoint)
    widths = (architecture.hidden, architecture.intermediate)
    if architecture.experts and any(width % _GROUPED for width in widths):
        raise UnsupportedModelError(
            f"{checkpoint.name} has experts of widths {widths}; multiples of {_GROUPED} can be computed."
        )
    weights = Weights(checkpoint, architecture)
    count = len(architecture.layers)

    def convert(slots: Mapping[str, Array]) -> dict[str, Tensor]:
        # A copy even where the type is right: the file's pages must not be what we compute on, since
        # they can be taken from memory, or change under us, at any time.
        converted = {
            slot: tensor(weight(array)).to(device, dtype, copy=True).contiguous()
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
    decoder = Decoder(
        architecture, top, blocks, capture or _capture_for(architecture, dtype, device)
    )
    if device != "cpu":
        decoder.forward([Chunk((0,), decoder.new_cache(1))])  # its libraries prepare themselves
    return decoder


def _capture_for(architecture: Architecture, dtype: torch.dtype, device: str) -> Capture | None:
    """Experts in float32 are looked at from the processor, which cannot be captured."""
    captured = architecture.experts is None or dtype == torch.bfloat16
    return CudaGraphs() if captured and device.startswith("cuda") else None


@contextlib.contextmanager
def enough_memory(device: str) -> Generator[None]:
    """What is done inside takes memory of the device of that name.

    Raises:
        UnavailableError: there is not as much as was said.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UnavailableError(
            f"The memory of {device} is full: another program may use it as well. End that, lower "
            'engine.memory, or set engine.device = "cpu".'
        ) from error


def load_encoder(checkpoint: Checkpoint) -> Encoder:
    """Read an embedding model in float32.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = checkpoint.architecture
    if not isinstance(architecture, EncoderArchitecture):
        raise ModelFileError(f"{checkpoint.name} writes text; it is not an embedding model.")
    return Encoder(architecture, checkpoint)
