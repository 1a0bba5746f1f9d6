"""Blocks of 8 and 4 bits made from floats: bounds of their error, and what the `gguf` package reads in them."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from daulat.engine.native.matrices import form_bytes, form_for
from daulat.engine.native.panels import BF16, F32, Q4_1, Q8_0
from daulat.engine.native.quantise import quantise
from daulat.errors import ModelFileError
from daulat.models.numbers import FLOATS

KINDS = {Q8_0: Kind.Q8_0, Q4_1: Kind.Q4_1}
SUBNORMAL = 2.0**-24
"""The least float16 number: no scale is smaller."""

magnitudes = st.sampled_from([1e-6, 1e-3, 0.02, 1.0, 300.0])
blocks = hnp.arrays(np.float32, (3, 64), elements=st.floats(-1, 1, width=32, allow_subnormal=False))


def back(raw: np.ndarray, form: int) -> np.ndarray:
    """What the blocks stand for, by the oracle."""
    return quants.dequantize(raw, KINDS[form]).astype(np.float64)


def steps(raw: np.ndarray, form: int) -> np.ndarray:
    """Each block's step, next to each of its weights [rows, columns]."""
    size = form_bytes(form, 32)
    halves = raw.reshape(-1, size)[:, :2].copy().view(np.float16).astype(np.float64)
    return np.repeat(halves, 32, axis=1).reshape(raw.shape[0], -1)


@settings(max_examples=200, deadline=None)
@given(numbers=blocks, size=magnitudes)
def test_eight_bits_are_never_further_away_than_half_a_step(
    numbers: np.ndarray, size: float
) -> None:
    x = numbers * np.float32(size)
    raw = quantise(x, Q8_0)
    step = steps(raw, Q8_0)
    largest = np.abs(x).reshape(3, 2, 32).max(2).repeat(32, axis=1).reshape(3, 64)
    assert (127 * step >= largest * (1 - 1e-6) - 1e-30).all()  # the grid holds the block
    assert (np.abs(back(raw, Q8_0) - x) <= step / 2 * (1 + 1e-5) + 1e-30).all()
    # No float16 step much smaller than that would hold it, unless all weights have one size.
    one_size = np.array([len(set(row) - {0.0}) <= 1 for row in np.abs(x).reshape(-1, 32)])
    tight = step <= largest / 127 * (1 + 2**-10) + SUBNORMAL
    assert (tight.reshape(-1, 32).all(1) | one_size).all()


@settings(max_examples=200, deadline=None)
@given(numbers=blocks, size=magnitudes)
def test_four_bits_are_at_least_as_good_as_a_grid_that_holds_the_block(
    numbers: np.ndarray, size: float
) -> None:
    x = (numbers * np.float32(size)).astype(np.float64)
    raw = quantise(x.astype(np.float32), Q4_1)
    error = ((back(raw, Q4_1) - x) ** 2).reshape(-1, 32).sum(1)
    plain = ((_holding(x) - x) ** 2).reshape(-1, 32).sum(1)
    noise = 32 * (2**-21 * np.abs(x).reshape(-1, 32).max(1)) ** 2  # of float32
    assert (error <= plain * (1 + 1e-4) + noise).all()
    # And so each weight's is at most what half a step of that grid allows for the whole block.
    spread = np.ptp(x.reshape(-1, 32), axis=1) + 2**-10 * np.abs(x).reshape(-1, 32).max(1)
    assert (error <= 32 * (spread / 15 * (1 + 2**-9) + SUBNORMAL) ** 2 / 4 + noise).all()


def _holding(x: np.ndarray) -> np.ndarray:
    """The plain way: float16 grids from below the least weight to above the greatest, in float64."""
    rows = x.reshape(-1, 32)
    low, high = rows.min(1), rows.max(1)
    least = low.astype(np.float16)
    over = least.astype(np.float64) > low
    least = np.where(over, np.nextafter(least, np.float16(-np.inf)), least).astype(np.float64)
    step = ((high - least) / 15).astype(np.float16)
    under = step.astype(np.float64) < (high - least) / 15
    step = np.where(under, np.nextafter(step, np.float16(np.inf)), step).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(step[:, None] > 0, np.rint((rows - least[:, None]) / step[:, None]), 0)
    return (q.clip(0, 15) * step[:, None] + least[:, None]).reshape(x.shape)


@pytest.mark.parametrize("form", [Q8_0, Q4_1])
@given(value=st.floats(-65504, 65504, width=16), holes=st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_constant_or_zero_is_exact(form: int, value: float, holes: bool) -> None:
    x = np.full((2, 32), value, dtype=np.float32)
    if holes and form == Q8_0:  # also with zeros between, and both signs: ternary weights
        x[0, ::3], x[1, 1::2] = 0.0, -value
    assert (back(quantise(x, form), form) == x).all()


@pytest.mark.parametrize("form", [Q8_0, Q4_1])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e9, -3e38])
@pytest.mark.parametrize("place", [0, 17, 31, 40, 63])
def test_what_is_no_number_is_refused(form: int, bad: float, place: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, 64), dtype=np.float32)
    x[1, place] = bad
    with pytest.raises(ModelFileError, match="bfloat16"):
        quantise(x, form)


@pytest.mark.parametrize("form", [Q8_0, Q4_1])
def test_better_than_the_packages_own_and_the_same_by_any_number_of_threads(form: int) -> None:
    x = np.random.default_rng(1).standard_normal((1500, 4096), dtype=np.float32) * np.float32(0.02)
    one, two = quantise(x, form), quantise(x, form, threads=2)
    assert np.array_equal(one, two)
    theirs = quants.dequantize(quants.quantize(x, KINDS[form]), KINDS[form])

    def error(y: Any) -> float:
        return float(((y - x) ** 2).mean())

    assert error(back(one, form)) <= error(theirs) * (1.001 if form == Q8_0 else 0.85)


def test_what_a_4_bit_file_held_is_found_again() -> None:
    x = np.random.default_rng(2).standard_normal((64, 1024), dtype=np.float32)
    held = gguf.quants.dequantize(gguf.quants.quantize(x, Kind.Q4_1), Kind.Q4_1)
    again = back(quantise(held, Q4_1), Q4_1)
    assert np.sqrt(((again - held) ** 2).mean()) <= 2e-3


@pytest.mark.parametrize("kind", ["F64", "F16", "BF16"])
def test_every_type_of_float(kind: str) -> None:
    x = np.random.default_rng(3).standard_normal((5, 96)).astype(FLOATS[kind])
    for form in KINDS:
        assert np.array_equal(quantise(x, form), quantise(x.astype(np.float32), form))


def test_which_matrices_take_which_form() -> None:
    assert [form_for(slot, "int4") for slot in ("out", "up", "qkv", "embed", "head")] == [
        Q4_1,
        Q4_1,
        Q8_0,
        Q8_0,
        Q8_0,
    ]
    assert form_for("down", "int8") == form_for("down", "int4") == Q8_0
    assert form_for("router", "int4", FLOATS["BF16"]) == BF16
    assert form_for("positions", "int8") == F32
    assert form_for("router", "bfloat16") == BF16
