"""From a checkpoint's tensors to a decoder or encoder in memory, one matrix at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from daulat.engine import prepared
from daulat.engine.adapter import Adapter, Delta
from daulat.engine.calibration import Calibration, tokens_for, write
from daulat.engine.decoder import Decoder
from daulat.engine.encoder import Encoder
from daulat.engine.native.decoder import NativeDecoder, Slots
from daulat.engine.native.gptq import quantise_for
from daulat.engine.native.matrices import Matrix, Numbers, form_for, kept_formats, matrix
from daulat.engine.native.panels import FLOAT32
from daulat.engine.native.quantise import quantise, restore
from daulat.engine.native.vector import Q4_1, Q8_0
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
        _offset_norms(block, architecture)
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
    prefill: int = FLOAT32,
    place: Place | None = None,
    calibration: int | None = None,
) -> NativeDecoder:
    """As `load_decoder`, for the decoder in machine code: matrices stay in their file's format.

    Args:
        numbers: what becomes of matrices that do not.
        prefill: what prompts are read with (`engine.native.panels`).
        place: where the weights lie when they are ready, and are kept if they cost time to make.
        calibration: tokens of text by which four bits are chosen (`engine.calibration`); None: as the
            model's size allows; 0: none, each weight is rounded by itself.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = _text(checkpoint)

    def read() -> prepared.Parts:
        return _ready(_Work(checkpoint, architecture, numbers, threads), progress, calibration)

    costly = place is not None and prepared.cost(checkpoint.tensors, numbers) >= place.least
    top, blocks = prepared.fetch(place, architecture, read) if place and costly else read()
    decoder = NativeDecoder(architecture, top, blocks, threads, prefill)
    decoder.warm()
    return decoder


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to become of a checkpoint."""

    checkpoint: Checkpoint
    architecture: Architecture
    numbers: Numbers
    threads: int

    def weights(self) -> Weights:
        return Weights(self.checkpoint, self.architecture, kept_formats(self.numbers))


def _ready(work: _Work, progress: Progress | None, calibration: int | None) -> prepared.Parts:
    """The weights as they are computed with."""
    rounded = _rounded(work) if work.numbers == "int4" and calibration != 0 else []
    if not any(rounded):
        return _read(work, progress)
    stages = [_third(progress, stage) for stage in range(3)]
    parts = _read(work, stages[0])
    rough = NativeDecoder(work.architecture, *parts, work.threads)
    tokens = tokens_for(sum(prod(i.shape) for i in work.checkpoint.tensors.values()))
    texts = write(rough, _beginning(work), calibration or tokens, stages[1])
    return _chosen(work, parts, rounded, texts, stages[2])


def _read(work: _Work, progress: Progress | None) -> prepared.Parts:
    weights = work.weights()
    count = len(work.architecture.layers)
    top = _slots(weights.top(), weights, work)
    blocks: list[Slots] = []
    for i in range(count):
        blocks.append(_slots(weights.block(i), weights, work))
        if progress is not None:
            progress(i + 1, count)
    weights.finish()
    return top, blocks


def _slots(read: dict[str, Tensor], weights: Weights, work: _Work) -> Slots:
    vectors = {slot: _convert(t, torch.float32) for slot, t in read.items() if t.dim() == 1}
    _offset_norms(vectors, work.architecture)
    matrices = {
        slot: matrix(
            _numbers(t),
            weights.stored.get(slot),
            form_for(slot, work.numbers, t.dtype),
            work.threads,
            slot in weights.joined,
        )
        for slot, t in read.items()
        if t.dim() > 1
    }
    return {**vectors, **matrices}


# --- four bits that know their inputs ------------------------------------------------------------


def _rounded(work: _Work) -> list[set[str]]:
    """Each block's matrices that become four bits."""
    weights = work.weights()
    found: list[set[str]] = []
    for i in range(len(work.architecture.layers)):
        read = weights.block(i)
        matrices = {s: t for s, t in read.items() if t.dim() > 1 and s not in weights.stored}
        found.append({s for s, t in matrices.items() if form_for(s, "int4", t.dtype) == Q4_1})
    return found


def _chosen(
    work: _Work,
    parts: prepared.Parts,
    rounded: Sequence[set[str]],
    texts: Sequence[Sequence[int]],
    progress: Progress,
) -> prepared.Parts:
    """The parts with those matrices chosen by their inputs."""
    top, blocks = parts
    weights = Weights(work.checkpoint, work.architecture)
    calibration = Calibration(work.architecture, weights.top(), texts)
    ready: list[Slots] = []
    for i, (block, wanted) in enumerate(zip(blocks, rounded, strict=True)):
        floats = _floats(weights.block(i), block, work)
        ready.append({**block, **_choose(work, calibration, i, floats, wanted)})
        progress(i + 1, len(blocks))
    return top, ready


def _floats(read: dict[str, Tensor], block: Slots, work: _Work) -> dict[str, Tensor]:
    """A block's numbers; of matrices in eight bits those that their blocks stand for."""
    floats = {slot: _convert(t, torch.float32) for slot, t in read.items()}
    _offset_norms(floats, work.architecture)
    for slot, held in block.items():
        if isinstance(held, Matrix) and held.form == Q8_0:
            w = floats[slot]
            raw = quantise(w.reshape(-1, w.shape[-1]), Q8_0, work.threads)
            floats[slot] = restore(raw, Q8_0).reshape(w.shape)
    return floats


def _choose(
    work: _Work, calibration: Calibration, i: int, floats: dict[str, Tensor], wanted: set[str]
) -> Slots:
    """The wanted matrices of a block, chosen while the texts go through it."""
    raw: dict[str, list[Tensor]] = {slot: [] for slot in wanted}

    def choose(slot: str, expert: int, gram: Tensor) -> Tensor:
        w = floats[slot] if floats[slot].dim() == 2 else floats[slot][expert]
        raw[slot].append(quantise_for(w, gram, work.threads))
        return restore(raw[slot][-1], Q4_1)

    calibration.through(i, floats, wanted, choose)
    return {slot: matrix(torch.cat(rows), "Q4_1", own=True) for slot, rows in raw.items()}


def _beginning(work: _Work) -> list[int]:
    """The token that begins a text, where the model's description names one."""
    config = work.checkpoint.config
    named = config.get("bos_token_id", config.get("tokenizer.ggml.bos_token_id"))
    good = isinstance(named, int) and 0 <= named < work.architecture.vocab
    return [named] if good else []


def _third(progress: Progress | None, stage: int) -> Progress:
    """Tell of one stage out of three."""

    def tell(done: int, all_: int) -> None:
        if progress is not None:
            progress(stage * all_ + done, 3 * all_)

    return tell


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


def _offset_norms(block: dict[str, Tensor], architecture: Architecture) -> None:
    _offset(block, tuple(slot for slot in block if slot.endswith("norm")), architecture)


def _offset(weights: dict[str, Tensor], slots: tuple[str, ...], architecture: Architecture) -> None:
    """Gemma stores its norms' weights less one."""
    if architecture.norm_offset:
        for slot in slots:
            weights[slot] = weights[slot] + architecture.norm_offset
