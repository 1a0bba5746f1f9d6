"""Steps in one memory, captured and not: against transformers, and that they touch what is their own alone."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from daulat.engine.cache import BLOCK_TOKENS, SequenceCache
from daulat.engine.decoder import Decoder
from daulat.engine.graphs import FEWEST_BLOCKS, Replay, next_power
from daulat.engine.pages import Pages
from daulat.engine.plain import load_decoder
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from tests.engine.checkpoints import make, write
from tests.engine.conftest import EXACT
from tests.engine.places import Place, place_of
from tests.engine.tiny import tiny_decoder

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    [(7 * i * i + 3 * i + k) % 300 for i in range(length)] for k, length in enumerate((270, 40, 61))
]
KINDS = (
    "llama biases",
    "mistral window",
    "mixtral window",
    "granite moe",
    "bigcode",
    "gpt-neo",
    "qwen3",
    "gemma 3",
)
WRITTEN = 14
"""Of each text, token by token."""


class Counting:
    """A capture that counts what it captured and how often that was done again."""

    def __init__(self, place: Place) -> None:
        assert place.capture is not None
        self._capture = place.capture
        self.captured = self.replayed = 0

    def __call__(self, compute: Callable[[], Tensor]) -> Replay:
        self.captured += 1
        again = self._capture(compute)

        def replay() -> Tensor:
            self.replayed += 1
            return again()

        return replay


@pytest.fixture(scope="module", params=["captured", "cuda"])
def capturing(request: pytest.FixtureRequest) -> Place:
    return place_of(request.param)


def pieces_of(text: list[int]) -> list[list[int]]:
    read, written = text[:-WRITTEN], text[-WRITTEN:]
    stretches = [read[i : i + 100] for i in range(0, len(read), 100)]
    return [*stretches, *([token] for token in written)]


@pytest.mark.parametrize("case", KINDS)
def test_every_kind_of_family_as_transformers_computes_it(
    case: str, tmp_path: Path, capturing: Place
) -> None:
    """Texts of different lengths in one memory: read in pieces beside each other, then token by token."""
    oracle, counting = make(case), Counting(capturing)
    checkpoint = open_checkpoint(write(oracle, tmp_path))
    decoder = load_decoder(checkpoint, device=capturing.device, capture=counting)
    memory = decoder.new_memory(16)
    numbers = np.random.default_rng(1).permutation(16).tolist()  # blocks lie in no order
    caches = [SequenceCache(memory) for _ in TEXTS]
    left = [pieces_of(text) for text in TEXTS]
    found: list[list[np.ndarray]] = [[] for _ in TEXTS]
    while any(left):
        chunks: dict[int, Chunk] = {}
        for i in (i for i, pieces in enumerate(left) if pieces):
            piece = left[i].pop(0)
            while caches[i].capacity < caches[i].length + len(piece):
                caches[i].add(numbers.pop())
            chunks[i] = Chunk(piece, caches[i], wanted=range(len(piece)))
        rows = decoder.forward(list(chunks.values()))
        for i, chunk in chunks.items():
            found[i].append(rows[: len(chunk.tokens)])
            rows = rows[len(chunk.tokens) :]
    assert counting.replayed > 2 * counting.captured > 0
    for text, rows in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            expected = oracle(torch.tensor([text])).logits[0].float().numpy()
        assert np.abs(np.concatenate(rows) - expected).max() <= EXACT


# --- whose slots are whose --------------------------------------------------------------------------

TINY = tiny_decoder()
BLOCKS = 40
STEPS = st.lists(
    st.dictionaries(st.integers(0, 8), st.sampled_from([1, 1, 1, 2, 40]), min_size=1, max_size=9),
    min_size=1,
    max_size=8,
)
"""Each with the sequences that bring tokens, and how many."""


@pytest.fixture(scope="module")
def one(place: Place) -> tuple[Decoder, Pages]:
    """A decoder with its memory: what it captured once is done again with whatever comes."""
    decoder = tiny_decoder(place=place)
    return decoder, decoder.new_memory(BLOCKS)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, seed=st.integers(0, 1 << 30), one_by_one=st.booleans())
def test_a_step_reads_and_writes_its_own_alone(
    one: tuple[Decoder, Pages], steps: list[dict[int, int]], seed: int, one_by_one: bool
) -> None:
    """Beside sequences that have memory of their own and are computed alone, without capturing; where nobody
    has written there is no number, which would spread to all that it is added to."""
    random = np.random.default_rng(seed)
    decoder, pages = one
    slots = [slot for slot in range(pages._slots.shape[2]) if slot != pages.nothing]
    pages._slots[:, :, slots] = torch.nan
    free = random.permutation(BLOCKS).tolist()
    caches = [SequenceCache(pages) for _ in range(9)]
    alone = [TINY.new_cache(8 * 40) for _ in range(9)]
    for step in steps:
        counts = {i: 1 if one_by_one else count for i, count in step.items()}
        texts = {i: random.integers(0, 256, count).tolist() for i, count in counts.items()}
        own: set[int] = set()
        for i, text in texts.items():
            cache = caches[i]
            while cache.capacity < cache.length + len(text):
                cache.add(free.pop() if free else _stop())
            for at in range(cache.length, cache.length + len(text)):
                block, place_in_it = divmod(at, BLOCK_TOKENS)
                own.add(cache.numbers[block] * BLOCK_TOKENS + place_in_it)
        before = pages._slots.clone()
        found = decoder.forward([Chunk(text, caches[i]) for i, text in texts.items()])
        for (i, text), row in zip(texts.items(), found, strict=True):
            assert np.abs(row - TINY.forward([Chunk(text, alone[i])])[0]).max() <= EXACT
        same = (before == pages._slots) | (before.isnan() & pages._slots.isnan())
        changed = torch.where(~same.all(4).all(3).all(1).all(0))[0].tolist()
        assert own <= set(changed) <= own | {pages.waste}


def _stop() -> int:
    raise AssertionError("the steps need more blocks than there are")


def test_a_shape_is_captured_once(capturing: Place) -> None:
    """However many sequences there are up to a power of two, and however long they are up to one."""
    counting = Counting(capturing)
    decoder = tiny_decoder(place=Place(capturing.device, counting))
    memory = decoder.new_memory(BLOCKS)
    caches = [SequenceCache(memory, range(8 * i, 8 * i + 8)) for i in range(5)]
    shapes: set[int] = set()
    for count in (1, 2, 3, 4, 3, 5, 1, 4, 2):
        decoder.forward([Chunk([7], cache) for cache in caches[:count]])
        shapes.add(next_power(count))
        assert counting.captured == len(shapes)
    assert counting.replayed == 9
    graphs = decoder._graphs
    assert graphs is not None
    assert set(graphs._shapes) == {(size, FEWEST_BLOCKS) for size in (1, 2, 4, 8)}
    for shape, held in graphs._shapes.items():
        assert held.batch.parts[0].tables.shape == shape
        assert all(one.shape[0] == shape[0] for one in held.batch.tensors())


def test_what_is_read_longer_than_a_shape_takes_the_next(capturing: Place) -> None:
    counting = Counting(capturing)
    decoder = tiny_decoder(place=Place(capturing.device, counting))
    memory = decoder.new_memory(BLOCKS)
    cache = SequenceCache(memory, range(FEWEST_BLOCKS + 1))
    alone = TINY.new_cache(cache.capacity)
    text = [i % 250 for i in range(FEWEST_BLOCKS * BLOCK_TOKENS - 1)]
    rows = [d.forward([Chunk(text, c)]) for d, c in ((decoder, cache), (TINY, alone))]
    assert counting.captured == 0
    for token, captured in ((3, 1), (4, 2), (5, 2)):
        rows = [d.forward([Chunk([token], c)]) for d, c in ((decoder, cache), (TINY, alone))]
        assert np.abs(rows[0] - rows[1]).max() <= EXACT
        assert counting.captured == captured


def test_no_circle_keeps_the_weights() -> None:
    """What is captured knows the decoder no more, as a CUDA graph does not: it goes when nobody uses it."""

    def frozen(compute: Callable[[], Tensor]) -> Replay:
        out = compute()
        return lambda: out

    decoder = tiny_decoder(place=Place("cpu", frozen))
    memory = decoder.new_memory(4)
    decoder.forward([Chunk([5], SequenceCache(memory, range(4)))])
    gone = [weakref.ref(one) for one in (decoder, memory)]
    gc.disable()
    try:
        del decoder, memory
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()


def test_steps_of_other_kinds_are_not_captured(capturing: Place) -> None:
    counting = Counting(capturing)
    decoder = tiny_decoder(place=Place(capturing.device, counting))
    older = SequenceCache(decoder.new_memory(4), range(4))
    cache = SequenceCache(decoder.new_memory(4), range(4))
    for chunks in (
        [Chunk([1, 2], cache)],
        [Chunk([3], cache), Chunk([4], decoder.new_cache(4))],
        [Chunk([5], older)],
    ):
        decoder.forward(chunks)
    assert counting.captured == 0
    decoder.forward([Chunk([5], cache)])
    assert counting.captured == 1


@pytest.mark.parametrize(("tokens", "capacity"), [([256], 4), ([-1], 4), ([1] * 33, 4)])
def test_what_a_device_could_not_refuse_is_refused_before(
    place: Place, tokens: list[int], capacity: int
) -> None:
    decoder = tiny_decoder(place=place)
    cache = decoder.new_cache(capacity)
    with pytest.raises(IndexError):
        decoder.forward([Chunk(tokens, cache)])
    assert cache.length == 0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 1 << 20))
def test_the_next_power(count: int) -> None:
    power = next_power(count)
    assert power // 2 < count <= power
    assert power & (power - 1) == 0
