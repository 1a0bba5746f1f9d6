"""The matrix units: their products and attention beside plain arithmetic, and that company changes nothing.

On a processor without them all of this is skipped; what the scheduler does for their sake is tested in
test_scheduler.py.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from daulat.engine.loading import load_native
from daulat.engine.native import tile_attention, tiles, units
from daulat.engine.native.matrices import KNOWN, Matrix
from daulat.engine.native.panels import FORMS, Floats, Steps
from daulat.engine.native.tile_attention import TOGETHER
from daulat.engine.native.vector import call
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from tests.engine.checkpoints import make, write
from tests.engine.company import PROMPTS, bits, rounded, scattered
from tests.engine.matrices_of import COLUMNS, random_matrix

pytestmark = pytest.mark.skipif(not units.there(), reason="this processor has no matrix units")

BY_TILES = [name for name, form in KNOWN.items() if isinstance(FORMS[form], Steps)] + ["BF16"]


@njit
def _read(numbers, x, groups, y, rows, scratch):
    address, panel_bytes, size, of_block, multiply, pack = numbers
    blocks, at = x.shape[1] // 32, groups.ctypes.data
    for m in range(x.shape[0]):
        group = at + m // size * blocks * of_block
        call(pack, x[m].ctypes.data, blocks, group, m % size, 0, 0, 0, 0, 0)
    to, inputs, room = y.ctypes.data, x.shape[0], scratch.ctypes.data
    call(multiply, address, panel_bytes, blocks, at, to, y.shape[1] * 4, inputs, rows, room)


def times(held: Matrix, x: np.ndarray, y: np.ndarray, rows: int, first: int = 0) -> None:
    """y[:, :rows] = x times the rows from `first` on, a multiple of 16, as a prompt's tokens are multiplied."""
    numbers = held.numbers(units=True)
    address, panel_bytes, *reading = (*numbers[:2], *numbers[6:])
    size, of_block = reading[:2]
    groups = np.empty(-(-len(x) // size) * (x.shape[1] // 32) * of_block, dtype=np.uint8)
    scratch = np.empty(tiles.SCRATCH, dtype=np.uint8)
    address += first // 16 * panel_bytes
    _read((address, panel_bytes, *reading), x, groups, y, rows, scratch)


def as_input(x: np.ndarray, form: str) -> np.ndarray:
    """In 8 significant bits, or in 16 where the weights are floats."""
    first = rounded(x)
    exact_weights = isinstance(FORMS[KNOWN[form]], Floats)
    return first + rounded(x - first.astype(np.float32)) if exact_weights else first


@pytest.mark.parametrize("form", BY_TILES)
@pytest.mark.parametrize(
    ("inputs", "rows"),
    [(1, 1), (1, 70), (2, 16), (15, 32), (16, 33), (17, 129), (32, 64), (49, 48), (700, 31)],
)
def test_products(form: str, inputs: int, rows: int) -> None:
    held, exact = random_matrix(form, rows)
    x = np.random.default_rng(inputs).standard_normal((inputs, COLUMNS), dtype=np.float32)
    y = np.full((inputs + 1, rows + 1), 7, dtype=np.float32)
    times(held, x, y, rows)
    expected = as_input(x, form) @ rounded(exact).T
    assert np.abs(y[:inputs, :rows] - expected).max() <= 1e-6 * np.abs(expected).max()
    assert (y[inputs] == 7).all()
    assert (y[:, rows] == 7).all()
    for m in range(0, inputs, 1 + inputs // 7):
        # Alone, and by another share of the rows, each gives the same bits.
        first = m % (1 + rows // 16) * 16 if rows > 16 else 0
        alone = np.empty((1, rows - first), dtype=np.float32)
        if rows > first:
            times(held, x[m : m + 1], alone, rows - first, first)
            assert (alone[0] == y[m, first:rows]).all()


@pytest.mark.parametrize("form", ["Q4_1", "Q8_0", "BF16"])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so_and_stays_alone(form: str, number: float) -> None:
    held, _ = random_matrix(form, 16)
    x, y = np.ones((2, COLUMNS), dtype=np.float32), np.zeros((2, 16), dtype=np.float32)
    x[0, 33] = number
    times(held, x, y, 16)
    assert not np.isfinite(y[0]).any()
    assert np.isfinite(y[1]).all()


@njit
def _attend(queries, count, blocks, keys, values, firsts, lasts, work, totals, mosts, out):
    tile_attention.attend(
        queries, count, blocks, keys, values, firsts, lasts, work.ctypes.data, totals, mosts, out
    )


@settings(max_examples=40, deadline=None)
@given(
    size=st.sampled_from([32, 64, 96, 128]),
    spans=st.lists(
        st.tuples(st.integers(0, 400), st.integers(1, 600)), min_size=1, max_size=TOGETHER
    ),
    seed=st.integers(0, 99),
)
def test_attention(size: int, spans: list[tuple[int, int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    keys, values = random.standard_normal((2, 1024, size), dtype=np.float32)
    keys *= np.linspace(0.1, 2, 1024, dtype=np.float32)[:, None]
    last_of_all = max(first + count for first, count in spans)
    unwritten = values.copy()
    unwritten[last_of_all:] = np.nan
    memory, blocks = scattered(keys, unwritten, random, short=True)
    queries = np.zeros((TOGETHER, size), dtype=np.float32)
    queries[: len(spans)] = random.standard_normal((len(spans), size)) / np.sqrt(size)
    firsts = np.zeros(TOGETHER, dtype=np.int64)
    lasts = np.zeros(TOGETHER, dtype=np.int64)
    firsts[: len(spans)] = [first for first, _ in spans]
    lasts[: len(spans)] = [first + count for first, count in spans]
    work = np.full(
        tile_attention.room(size), 255, dtype=np.uint8
    )  # not a number, wherever one looks

    def run(rows: slice) -> np.ndarray:
        out = np.empty((TOGETHER, size), dtype=np.float32)
        where = blocks.ctypes.data, 0, memory.strides[1]
        totals, mosts = np.empty((2, TOGETHER), dtype=np.float32)
        some = np.zeros_like(queries)
        count = len(queries[rows])
        some[:count] = queries[rows]
        spans_of = firsts[rows].copy(), lasts[rows].copy()
        _attend(some, count, *where, *spans_of, work, totals, mosts, out)
        return out[:count]

    together = run(slice(0, len(spans)))
    for m in range(len(spans)):
        first, last = firsts[m], lasts[m]
        logits = rounded(keys[first:last]) @ rounded(queries[m])
        weights = np.exp(logits - logits.max())
        expected = weights / weights.sum() @ rounded(values[first:last])
        # What is left is the rounding of the shares, to 8 bits.
        assert np.abs(together[m] - expected).max() <= 2**-8 * np.abs(values).max()
        if m % 7 == 0:
            assert (run(slice(m, m + 1))[0] == together[m]).all()


CASES = ["llama", "llama head size", "mistral window", "granite moe", "gemma 3", "gpt-neo"]


@pytest.fixture(scope="module", params=CASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return write(make(request.param), tmp_path_factory.mktemp("tiles"))


def test_the_same_bits_in_any_company_however_cut_by_any_number_of_threads(folder) -> None:
    expected: list[bytes] | None = None
    for threads, piece, company in itertools.product((1, 2, 3), (1, 7, 70), (0, 1, 9)):
        decoder = load_native(open_checkpoint(folder), "int8", threads=threads)
        assert not decoder.reads_as_it_writes
        found = bits(decoder, PROMPTS, piece, [None] * company)
        expected = expected or found
        assert found == expected, (threads, piece, company)


def test_what_is_read_is_near_to_what_is_written(folder) -> None:
    """The same weights: logits differ by what 8 significant bits cost."""
    checkpoint = open_checkpoint(folder)
    exact = load_native(checkpoint, "int8", inputs="int16")
    reading = load_native(checkpoint, "int8")
    assert exact.reads_as_it_writes
    found = [d.forward([Chunk(PROMPTS[0], d.new_cache(70))], every=True) for d in (exact, reading)]
    away = found[0] - found[1]
    assert 0 < np.sqrt(np.mean(away * away)) <= 0.03 * found[0].std()


def test_they_are_not_used_where_that_is_asked_for_or_weights_are_exact(folder) -> None:
    checkpoint = open_checkpoint(folder)
    assert load_native(checkpoint, "int8", matrix_units=False).reads_as_it_writes
    assert load_native(checkpoint, "float32").reads_as_it_writes


def test_without_them_what_is_read_has_the_bits_of_what_is_written(folder) -> None:
    decoder = load_native(open_checkpoint(folder), "int8", matrix_units=False)
    found = [
        decoder.forward([Chunk(PROMPTS[2], decoder.new_cache(41), written=written)]).tobytes()
        for written in (False, True)
    ]
    assert found[0] == found[1]
