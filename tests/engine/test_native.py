"""The machine code: the numbers of every format, and that nobody's answer depends on the company."""

from __future__ import annotations

import itertools
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit

from daulat.engine.loading import load_native
from daulat.engine.native import home, program
from daulat.engine.native.attention import TOGETHER, WIDTH, attend
from daulat.engine.native.decoder import fits
from daulat.engine.native.matrices import KNOWN, held_bytes
from daulat.engine.native.panels import FORMS, Floats
from daulat.engine.native.vector import (
    call,
    silu_times,
    soften,
    store_every_other,
    store_pairs,
)
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from tests.engine.checkpoints import CASES, make, write
from tests.engine.company import PROMPTS, bits, rounded, scattered
from tests.engine.matrices_of import COLUMNS, random_matrix
from tests.engine.products import times
from tests.engine.tiny import tiny_decoder


@njit
def _unpack(address, panel, blocks, lane, y):
    call(address, panel, blocks, lane, y.ctypes.data, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("form", list(KNOWN))
def test_every_format_is_unpacked_exactly(form: str) -> None:
    held, exact = random_matrix(form, 32)
    assert held.data.size == held_bytes(form, 32 * COLUMNS)
    held, exact = random_matrix(form, 23)
    address, panel_bytes, _, _, unpack, *_ = held.numbers()
    out = np.empty(COLUMNS, dtype=np.float32)
    for row in range(23):
        _unpack(unpack, address + row // 16 * panel_bytes, COLUMNS // 32, row % 16, out)
        assert (out == exact[row]).all()


LIMITS = {False: 127, True: 32639}
"""The largest step of an input."""


def _as_input(x: np.ndarray, form: str, fine: bool) -> np.ndarray:
    """The numbers that are multiplied: in a grid of so many steps to each side for each block of 32."""
    if isinstance(FORMS[KNOWN[form]], Floats):
        return x.astype(np.float64)
    blocks = x.reshape(len(x), -1, 32)
    most = np.abs(blocks).max(axis=2, keepdims=True)
    steps = np.rint(blocks * (np.float32(LIMITS[fine]) / most))
    return (steps * (most.astype(np.float64) / LIMITS[fine])).reshape(x.shape)


def _half_steps(x: np.ndarray, exact: np.ndarray, fine: bool) -> np.ndarray:
    """What products may be off by when each number of a block is at most half a step from what it was."""
    blocks = np.abs(x.astype(np.float64)).reshape(len(x), -1, 32).max(axis=2)
    weights = np.abs(exact).reshape(len(exact), -1, 32).sum(axis=2)
    return (blocks / LIMITS[fine] * 0.5001 + 1e-30) @ weights.T


@pytest.mark.parametrize("form", list(KNOWN))
@pytest.mark.parametrize(
    ("inputs", "rows"),
    [(1, 1), (1, 70), (2, 16), (3, 5), (4, 32), (7, 129), (8, 64), (9, 3), (14, 48), (600, 17)],
)
@pytest.mark.parametrize("fine", [False, True])
def test_products(form: str, inputs: int, rows: int, fine: bool) -> None:
    held, exact = random_matrix(form, rows)
    x = np.random.default_rng(inputs).standard_normal((inputs, COLUMNS), dtype=np.float32)
    y = np.full((inputs + 1, rows + 1), 7, dtype=np.float32)
    times(held, fine, x, y, rows)
    exact = exact.astype(np.float64)
    taken, plain = _as_input(x, form, fine) @ exact.T, x.astype(np.float64) @ exact.T
    assert np.abs(y[:inputs, :rows] - taken).max() <= 3e-6 * np.abs(taken).max()
    sums = np.abs(x) @ np.abs(exact).T
    assert (np.abs(y[:inputs, :rows] - plain) <= _half_steps(x, exact, fine) + 1e-5 * sums).all()
    assert (y[inputs] == 7).all()
    assert (y[:, rows] == 7).all()
    for m in range(0, inputs, 1 + inputs // 7):
        # Alone, and by another share of the rows, each gives the same bits.
        first = m % (1 + rows // 16) * 16 if rows > 16 else 0
        alone = np.empty((1, rows - first), dtype=np.float32)
        if rows > first:
            times(held, fine, x[m : m + 1], alone, rows - first, first)
            assert (alone[0] == y[m, first:rows]).all()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([name for name in KNOWN if not isinstance(FORMS[KNOWN[name]], Floats)]),
    arrays(
        np.float32,
        (1, COLUMNS),
        elements=st.floats(-1e8, 1e8, width=32),
        fill=st.sampled_from([0.0, 1.0, -1e-20]),
    ),
    st.booleans(),
)
def test_products_of_any_inputs(form: str, x: np.ndarray, fine: bool) -> None:
    """Each block of inputs is at most half a step from what it was."""
    held, exact = random_matrix(form, 16)
    y = np.empty((1, 16), dtype=np.float32)
    times(held, fine, x, y, 16)
    exact = exact.astype(np.float64)
    sums = np.abs(x.astype(np.float64)) @ np.abs(exact).T
    assert (
        np.abs(y - x.astype(np.float64) @ exact.T) <= _half_steps(x, exact, fine) + 1e-5 * sums
    ).all()


@pytest.mark.parametrize("form", ["Q4_1", "Q8_0", "Q6_K", "F32"])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("fine", [False, True])
def test_what_is_not_finite_stays_so(form: str, number: float, fine: bool) -> None:
    held, _ = random_matrix(form, 16)
    x, y = np.ones((2, COLUMNS), dtype=np.float32), np.zeros((2, 16), dtype=np.float32)
    x[0, 33] = number
    times(held, fine, x, y, 16)
    assert not np.isfinite(y[0]).any()
    assert np.isfinite(y[1]).all()


@njit
def _soften(values, count, least):
    return soften(values.ctypes.data, count, least)


@njit
def _silu(gate, up):
    silu_times(gate.ctypes.data, up.ctypes.data, gate.shape[0])


@pytest.mark.parametrize("least", [np.float32(-np.inf), np.float32(3), np.float32(90)])
@pytest.mark.parametrize("count", [16, 32, 48, 1008, 4096])
def test_softmax_without_the_division(count: int, least: np.float32) -> None:
    x = np.random.default_rng(count).uniform(-120, 80, count).astype(np.float32)
    x[::5] = -1e30
    got = x.copy()
    most, total, less = _soften(got, count, least)
    assert most == max(x.max(), least)
    exact = np.exp((x - most).astype(np.float64))
    inside = x - most > -87
    assert (np.abs(got - exact)[inside] / exact[inside]).max(initial=0) <= 3e-7
    assert (got[~inside] == 0).all()
    assert abs(total - exact.sum()) <= 1e-6 * exact.sum() + 1e-34
    assert abs(less - np.exp(np.float64(least - most))) <= 3e-7
    assert (less == 1) == (least == most)


def test_softmax_of_what_is_no_number() -> None:
    x = np.ones(32, dtype=np.float32)
    x[20] = np.nan
    assert np.isnan(_soften(x, 32, np.float32(-np.inf))[1])


def test_silu() -> None:
    x = np.linspace(-120, 80, 16 * 2000, dtype=np.float32)
    gate, up = x.copy(), np.full_like(x, 2.0)
    _silu(gate, up)
    expected = 2 * x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    assert np.abs(gate - expected).max() <= 2e-5
    assert np.isfinite(gate).all()


@njit
def _put(keys, values, place, memory, value_place):
    size, to = keys.shape[0], memory.ctypes.data
    store_pairs(keys.ctypes.data, size, to + place * 4, 128)
    store_every_other(values.ctypes.data, size, to + value_place)


@settings(max_examples=40, deadline=None)
@given(
    size=st.sampled_from([16, 48, 64]),
    order=st.permutations(range(32)),
    seed=st.integers(0, 99),
    exponent=st.integers(-38, 37),
)
def test_short_keys_and_values_lie_by_pairs(
    size: int, order: list[int], seed: int, exponent: int
) -> None:
    """Token after token, in any order: each leaves its neighbours alone, and is rounded to even."""
    random = np.random.default_rng(seed)
    keys, values = (random.standard_normal((2, 1024, size)) * 10.0**exponent).astype(np.float32)
    keys[5, :4] = [1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), np.inf]
    broken = np.array([0x7FFFFFFF, 0xFFFFFFFF], dtype=np.uint32).view(np.float32)
    keys[6, :2] = values[6, 3:5] = broken
    expected, _ = scattered(keys, values, np.random.default_rng(0), short=True)
    wanted = expected[np.random.default_rng(0).permutation(32).tolist().index(0)]
    memory = np.full((2, 32 * size), 0x7FFF, dtype=np.uint16)
    for place in order:
        where = memory.strides[0] + place // 2 * size * 4 + place % 2 * 2
        _put(keys[place], values[place], place, memory, where)
    # What is no number stays none, whatever its bits.
    got = memory.view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(got, wanted.astype(np.float32), equal_nan=True)
    assert np.isnan(got).sum() == 4


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([8, 16, 32, 48, 64, 80, 128]),
    short=st.booleans(),
    spans=st.lists(
        st.tuples(st.integers(0, 400), st.integers(1, 600)), min_size=1, max_size=TOGETHER
    ),
    seed=st.integers(0, 99),
)
def test_attention(size: int, short: bool, spans: list[tuple[int, int]], seed: int) -> None:
    short = short and size % 16 == 0
    random = np.random.default_rng(seed)
    keys, values = random.standard_normal((2, 1024, size), dtype=np.float32)
    keys *= np.linspace(0.1, 2, 1024, dtype=np.float32)[
        :, None
    ]  # so that the largest score comes late
    unwritten = values.copy()
    unwritten[max(first + count for first, count in spans) :] = np.nan
    memory, blocks = scattered(keys, unwritten, random, short=short)
    if short:
        keys, values = rounded(keys), rounded(values)
    queries = random.standard_normal((len(spans), size), dtype=np.float32) / np.sqrt(
        np.float32(size)
    )
    firsts = np.array([first for first, _ in spans])
    lasts = np.array([first + count for first, count in spans])
    scores = np.empty((TOGETHER, WIDTH), dtype=np.float32)

    def run(rows: slice) -> np.ndarray:
        out = np.empty_like(queries[rows])
        where = blocks.ctypes.data, 0, memory.strides[1]
        totals, mosts = np.empty((2, TOGETHER), dtype=np.float32)
        spans = firsts[rows], lasts[rows]
        attend(queries[rows], *where, *spans, scores, totals, mosts, out, 1, int(short))
        return out

    together = run(slice(None))
    for m, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        logits = keys[first:last].astype(np.float64) @ queries[m]
        weights = np.exp(logits - logits.max())
        expected = weights / weights.sum() @ values[first:last]
        assert np.abs(together[m] - expected).max() <= 1e-5
        assert (run(slice(m, m + 1))[0] == together[m]).all()


@pytest.mark.parametrize("each", [1, 3, 7])
@pytest.mark.parametrize(("size", "short"), [(16, 0), (40, 0), (64, 0), (16, 1), (64, 1)])
def test_attention_of_heads_together(size: int, short: int, each: int) -> None:
    random = np.random.default_rng(size)
    heads, blocks = 3, 20
    memory = random.standard_normal((blocks, 2, heads, 32 * size), dtype=np.float32)
    if short:
        memory = memory.astype(ml_dtypes.bfloat16)
    table = memory.ctypes.data + np.arange(blocks) * memory.strides[0]
    queries = random.standard_normal((heads * each, size), dtype=np.float32)
    lasts = random.integers(500, 640, heads * each)
    firsts = lasts - random.integers(1, 500, heads * each)
    scores = np.empty((TOGETHER, WIDTH), dtype=np.float32)

    def run(rows: slice, head: int, together: int) -> np.ndarray:
        out = np.empty_like(queries[rows])
        totals, mosts = np.empty((2, TOGETHER), dtype=np.float32)
        keys = head * memory.strides[2]
        where = table.ctypes.data, keys, keys + memory.strides[1]
        spans = firsts[rows], lasts[rows]
        attend(queries[rows], *where, *spans, scores, totals, mosts, out, together, short)
        return out

    got = run(slice(None), 0, heads)
    for head in range(heads):
        rows = slice(head * each, (head + 1) * each)
        assert (run(rows, head, 1) == got[rows]).all()


@pytest.fixture(
    scope="module", params=["llama", "mistral window", "granite moe", "gemma 3", "gpt-neo"]
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(make(request.param), tmp_path_factory.mktemp("native"))


def test_the_same_bits_in_any_company_however_cut_by_any_number_of_threads(folder: Path) -> None:
    expected: list[bytes] | None = None
    for threads, piece, company in itertools.product((1, 2, 3), (1, 7, 70), (0, 1, 9)):
        decoder = load_native(open_checkpoint(folder), threads=threads)
        found = bits(decoder, PROMPTS, piece, [None] * company)
        expected = expected or found
        assert found == expected, (threads, piece, company)


def test_a_token_that_the_model_lacks_is_refused_before_it_is_an_address(folder: Path) -> None:
    decoder = load_native(open_checkpoint(folder))
    for token in (-1, 300, 1 << 40):
        with pytest.raises(IndexError, match="vocabulary"):
            decoder.forward([Chunk([token], decoder.new_cache(4))])


def test_more_than_the_cache_holds_is_refused(folder: Path) -> None:
    decoder = load_native(open_checkpoint(folder))
    with pytest.raises(IndexError, match="cache"):
        decoder.forward([Chunk([1] * 33, decoder.new_cache(2))])


def test_what_does_not_come_in_whole_blocks_is_left_to_the_plain_way() -> None:
    assert fits(tiny_decoder().architecture) is False
    assert len(CASES) > 10


def test_the_cache_of_compiled_code_knows_its_sources() -> None:
    assert not home.is_empty()
    assert program.LAYER_SIZE > program.POST_MLP_NORM
