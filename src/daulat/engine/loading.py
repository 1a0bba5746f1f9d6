"""From a checkpoint's tensors to a decoder in machine code, one matrix at a time, and adapters for it.

Not here: the plain way and embedding models (`plain`), which need PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from daulat.engine import prepared
from daulat.engine.adapter import Adapter, Delta
from daulat.engine.native.decoder import NativeDecoder, Slots
from daulat.engine.native.gptq import quantise_for
from daulat.engine.native.matrices import (
    Inputs,
    Matrix,
    Numbers,
    form_for,
    kept_formats,
    matrix,
    short_cache,
)
from daulat.engine.native.panels import Q4_1, Q8_0
from daulat.engine.native.quantise import quantise, restore
from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.checkpoint import Checkpoint
from daulat.models.lora import LoraFile, Pair
from daulat.models.numbers import Array, Floats, float32, is_float
from daulat.models.shelf import Place
from daulat.models.tokenizer import load_tokenizer
from daulat.models.weights import Weights
from daulat.values.architecture import Architecture

if TYPE_CHECKING:
    from daulat.engine.calibration import Calibration

Progress = Callable[[int, int], None]


def load_native(
    checkpoint: Checkpoint,
    numbers: Numbers = "float32",
    threads: int = 1,
    progress: Progress | None = None,
    place: Place | None = None,
    calibration: int | None = None,
    inputs: Inputs = "auto",
    *,
    matrix_units: bool = True,
) -> NativeDecoder:
    """Read every weight and check that nothing is missing or left over; matrices stay in their file's format.

    Args:
        numbers: what becomes of matrices that do not.
        place: where the weights lie when they are ready, and are kept if they cost time to make.
        calibration: tokens of text by which four bits are chosen (`engine.calibration`); None: as the
            model's size allows; 0: none, each weight is rounded by itself.
        inputs: what they become where weights have few bits.
        matrix_units: prompts are read by the processor's, where it has any.

    Raises:
        ModelFileError: the files do not hold what their description says.
    """
    architecture = text_of(checkpoint)

    def read() -> prepared.Parts:
        return _ready(_Work(checkpoint, architecture, numbers, threads), progress, calibration)

    costly = place is not None and prepared.cost(checkpoint.tensors, numbers) >= place.least
    top, blocks = prepared.fetch(place, architecture, read) if place and costly else read()
    tensors = checkpoint.tensors.values()
    decoder = NativeDecoder(
        architecture,
        top,
        blocks,
        threads,
        inputs,
        matrix_units=matrix_units,
        short_cache=short_cache(tensors, architecture.head_dim, numbers, inputs),
    )
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
    # They bring PyTorch, which takes a second and is not needed but for this.
    from daulat.engine.allocation import allocate  # noqa: PLC0415
    from daulat.engine.calibration import Calibration, tokens_for, write  # noqa: PLC0415
    from daulat.engine.plain import compute_on  # noqa: PLC0415

    stages = [_part(progress, stage, 4) for stage in range(4)]
    # Eight bits write better text than four (docs/experiments.md).
    parts = _read(replace(work, numbers="int8"), stages[0])
    # The same text on every machine.
    writer = NativeDecoder(work.architecture, *parts, work.threads, matrix_units=False)
    tokens = tokens_for(sum(prod(i.shape) for i in work.checkpoint.tensors.values()))
    texts = write(writer, _beginning(work), calibration or tokens, stages[1], _phrases(work))
    compute_on(work.threads)
    top = Weights(work.checkpoint, work.architecture).top()
    passing = Calibration(work.architecture, top, texts)
    fours = _fours(work, rounded, passing, stages[2])
    blocks = allocate(parts, fours, texts, work.architecture, work.threads, stages[3])
    return parts[0], blocks


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


def _slots(read: Mapping[str, Array], weights: Weights, work: _Work) -> Slots:
    vectors = {slot: float32(weight(t)) for slot, t in read.items() if t.ndim == 1}
    offset_norms(vectors, work.architecture)
    matrices = {
        slot: matrix(
            t if slot in weights.stored else weight(t),
            weights.stored.get(slot),
            form_for(slot, work.numbers, t.dtype),
            work.threads,
        )
        for slot, t in read.items()
        if t.ndim > 1
    }
    return {**vectors, **matrices}


# --- four bits that know their inputs ------------------------------------------------------------


def _rounded(work: _Work) -> list[set[str]]:
    """Each block's matrices that may become four bits."""
    weights = work.weights()
    found: list[set[str]] = []
    for i in range(len(work.architecture.layers)):
        read = weights.block(i)
        matrices = {s: t for s, t in read.items() if t.ndim > 1 and s not in weights.stored}
        found.append({s for s, t in matrices.items() if form_for(s, "int8", t.dtype) == Q8_0})
    return found


def _fours(
    work: _Work, rounded: Sequence[set[str]], calibration: Calibration, progress: Progress
) -> list[dict[str, Matrix]]:
    """Those matrices of each block in four bits, chosen by their inputs."""
    weights = Weights(work.checkpoint, work.architecture)
    found: list[dict[str, Matrix]] = []
    for i, wanted in enumerate(rounded):
        floats = {slot: float32(weight(t)) for slot, t in weights.block(i).items()}
        offset_norms(floats, work.architecture)
        found.append(_choose(work, calibration, i, floats, wanted))
        progress(i + 1, len(rounded))
    return found


def _choose(
    work: _Work, calibration: Calibration, i: int, floats: dict[str, Floats], wanted: set[str]
) -> dict[str, Matrix]:
    """The wanted matrices of a block, chosen while the texts go through it."""
    raw: dict[str, list[Array]] = {slot: [] for slot in wanted}

    def choose(slot: str, expert: int, gram: Floats) -> Floats:
        w = floats[slot] if floats[slot].ndim == 2 else floats[slot][expert]
        raw[slot].append(quantise_for(w, gram, work.threads))
        # What most of this kind will be is what those behind are chosen by.
        if form_for(slot, "int4") == Q8_0:
            return restore(quantise(w, Q8_0, work.threads), Q8_0)
        return restore(raw[slot][-1], Q4_1)

    calibration.through(i, floats, wanted, choose)
    return {
        slot: matrix(np.concatenate(rows), "Q4_1", threads=work.threads)
        for slot, rows in raw.items()
    }


def _beginning(work: _Work) -> list[int]:
    """The token that begins a text, where the model's description names one."""
    config = work.checkpoint.config
    named = config.get("bos_token_id", config.get("tokenizer.ggml.bos_token_id"))
    good = isinstance(named, int) and 0 <= named < work.architecture.vocab
    return [named] if good else []


def _phrases(work: _Work) -> list[list[int]]:
    """`calibration.PHRASES` in the model's tokens; none where it has no tokenizer of its own."""
    from daulat.engine.calibration import PHRASES  # noqa: PLC0415 - as above

    try:
        tokenizer = load_tokenizer(work.checkpoint)
    except (ModelFileError, UnsupportedModelError):
        return []
    return [tokenizer.encode(phrase, special=False) for phrase in PHRASES]


def _part(progress: Progress | None, stage: int, stages: int) -> Progress:
    """Tell of one stage out of several."""

    def tell(done: int, all_: int) -> None:
        if progress is not None:
            progress(stage * all_ + done, stages * all_)

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
