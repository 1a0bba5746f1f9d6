"""Four bits by a matrix's inputs: against GPTQ as its paper has it, column by column in float64, and its inputs
against transformers' own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from daulat.engine import calibration
from daulat.engine.calibration import FEWEST, LENGTH, TOKENS, Calibration, tokens_for
from daulat.engine.loading import load_native
from daulat.engine.native.gptq import DAMPING, quantise_for
from daulat.engine.native.panels import Q4_1, Q8_0
from daulat.engine.native.quantise import quantise, restore
from daulat.engine.plain import load_decoder
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from daulat.models.weights import Weights
from tests.engine.checkpoints import CASES, make, write

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {Q8_0: Kind.Q8_0, Q4_1: Kind.Q4_1}


def inputs(tokens: int, columns: int, seed: int) -> np.ndarray:
    """That hang together, some channels much stronger than others, as in real models."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((tokens, columns)) @ random.standard_normal((columns, columns))
    return mixed * np.exp(random.standard_normal(columns))


def gram_of(x: np.ndarray) -> np.ndarray:
    return (x.T @ x).astype(np.float32)


def error(w: np.ndarray, v: np.ndarray, gram: np.ndarray) -> float:
    off = w.astype(np.float64) - v
    return float(((off @ gram.astype(np.float64)) * off).sum())


# --- the plain way ------------------------------------------------------------------------------------


def plain(w: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """What the blocks stand for. Optimal Brain Quantisation's update, the inverse shrunk column by column."""
    columns = w.shape[1]
    strength = np.diag(gram).copy()
    h = gram.astype(np.float64) + DAMPING * (strength.mean() or 1.0) * np.eye(columns)
    blocks = np.argsort(-strength.reshape(-1, 32).sum(1), kind="stable")
    order = [
        32 * b + c for b in blocks for c in np.argsort(-strength[32 * b :][:32], kind="stable")
    ]
    left, inverse = w.astype(np.float64), np.linalg.inv(h)
    out = np.empty_like(left)
    for at, column in enumerate(order):
        if at % 32 == 0:
            d, m = _grids(left, order[at : at + 32], inverse)
        out[:, column] = d * _steps(left[:, column], d, m) + m
        bad = (left[:, column] - out[:, column]) / inverse[column, column]
        left -= bad[:, None] * inverse[column]
        inverse -= np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return out


def _steps(x: np.ndarray, d: np.ndarray, m: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(d > 0, np.rint((x - m) / d), 0).clip(0, 15)


def _grids(
    left: np.ndarray, block: list[int], inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's best grid, float16 numbers."""
    now, weights = inverse.copy(), np.empty(32)
    for k, column in enumerate(block):
        weights[k] = 1 / now[column, column]
        now -= np.outer(now[:, column], now[column]) / now[column, column]
    weights /= weights.sum()
    found = [_grid(x, weights) for x in left[:, block]]
    return np.array([d for d, _ in found]), np.array([m for _, m in found])


def _grid(x: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    def loss(d: float, m: float) -> float:
        return float((weights * (d * _steps(x, np.array(d), np.array(m)) + m - x) ** 2).sum())

    least = float(np.float16(x.min()))
    grids = [(float(np.float16((x.max() - least) / 15)), least)]
    wide = x.max() - x.min()
    for k in range(14):
        q = np.rint((x - x.min()) * (14.25 + 0.25 * k) / wide).clip(0, 15) if wide > 0 else 0 * x
        mean, middle = (weights * q).sum(), (weights * x).sum()
        spread = (weights * (q - mean) ** 2).sum()
        slope = (weights * (q - mean) * x).sum() / spread if spread > 1e-6 else 0.0
        d = float(np.float16(max(slope, 0.0)))
        grids.append((d, float(np.float16(middle - d * mean))))
    return min(grids, key=lambda grid: loss(*grid))


@pytest.mark.parametrize(
    ("rows", "columns", "tokens"), [(40, 32, 200), (70, 128, 512), (9, 96, 20)]
)
def test_as_the_plain_way(rows: int, columns: int, tokens: int) -> None:
    w = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32) * 0.05
    gram = gram_of(inputs(tokens, columns, 2))
    expected = plain(w, gram)
    found = restore(quantise_for(w, gram), Q4_1)
    # A weight in the middle between two steps goes the other way in float32, and others after it.
    assert error(w, found, gram) == pytest.approx(error(w, expected, gram), rel=0.03)
    assert (np.abs(found - expected) < 1e-6).mean() > 0.8
    # Far better than rounding each weight by itself.
    rounded = restore(quantise(w, Q4_1), Q4_1)
    assert error(w, found, gram) < 0.7 * error(w, rounded, gram)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    size=st.sampled_from([1e-6, 0.02, 1.0, 300.0]),
    tokens=st.sampled_from([0, 1, 5, 100]),
    strength=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_whatever_the_inputs_no_weight_is_thrown_far(
    seed: int, size: float, tokens: int, strength: float
) -> None:
    random = np.random.default_rng(seed)
    w = (random.standard_normal((5, 64)) * size).astype(np.float32)
    gram = gram_of(inputs(tokens, 64, seed) * strength)
    found = restore(quantise_for(w, gram), Q4_1)
    assert np.isfinite(found).all()
    rounded = restore(quantise(w, Q4_1), Q4_1)
    mean = float(gram.diagonal().mean(dtype=np.float64)) or 1.0
    damped = gram.astype(np.float64) + DAMPING * mean * np.eye(64)
    assert error(w, found, damped) <= 1.5 * error(w, rounded, damped) + 1e-12 * size**2 * mean


@given(value=st.floats(-65504, 65504, width=16))
@settings(max_examples=50, deadline=None)
def test_what_is_constant_is_exact(value: float) -> None:
    w = np.full((3, 64), value, dtype=np.float32)
    gram = gram_of(inputs(50, 64, 3))
    assert np.array_equal(restore(quantise_for(w, gram), Q4_1), w)


def test_inputs_that_say_nothing_leave_rounding() -> None:
    """Without inputs no column can make good for another."""
    w = np.random.default_rng(4).standard_normal((50, 96), dtype=np.float32)
    found = restore(quantise_for(w, np.zeros((96, 96), dtype=np.float32)), Q4_1)
    rounded = restore(quantise(w, Q4_1), Q4_1)
    ratio = ((found - w) ** 2).sum() / ((rounded - w) ** 2).sum()
    assert ratio == pytest.approx(1.0, rel=1e-3)


def test_the_same_by_any_number_of_threads() -> None:
    w = np.random.default_rng(5).standard_normal((1500, 64), dtype=np.float32)
    gram = gram_of(inputs(300, 64, 6))
    assert np.array_equal(quantise_for(w, gram), quantise_for(w, gram, threads=3))


@pytest.mark.parametrize("form", [Q8_0, Q4_1])
def test_blocks_stand_for_what_the_gguf_package_reads(form: int) -> None:
    raw = quantise(np.random.default_rng(7).standard_normal((7, 96), dtype=np.float32), form)
    assert np.array_equal(restore(raw, form), quants.dequantize(raw, KINDS[form]))


# --- the inputs ---------------------------------------------------------------------------------------

OUTS = ("o_proj", "attn.c_proj", "out_proj")
DOWNS = ("down_proj", "mlp.c_proj")
UPS = ("up_proj", "c_fc")
QKVS = ("q_proj", "c_attn")
SITES = {"qkv": QKVS, "out": OUTS, "up": UPS, "down": DOWNS}


@contextmanager
def watched(model: Any) -> Iterator[list[tuple[str, Tensor]]]:
    """The grams of what the oracle's matrices take, in order."""
    seen: list[tuple[str, Tensor]] = []
    hooks: list[Any] = []
    for name, module in model.named_modules():
        for slot, ends in SITES.items():
            if name.endswith(ends):

                def look(_m: Any, taken: Any, _y: Any, slot: str = slot) -> None:
                    x = taken[0].reshape(-1, taken[0].shape[-1])
                    seen.append((slot, x.T @ x))

                hooks.append(module.register_forward_hook(look))
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("case", list(CASES))
def test_inputs_are_those_of_the_oracle(case: str, tmp_path: Path) -> None:
    """With every matrix left as it is, all families: what is told of inputs is what transformers sees."""
    model = make(case)
    checkpoint = open_checkpoint(write(model, tmp_path))
    architecture: Any = checkpoint.architecture
    texts = torch.randint(300, (3, 40), generator=torch.Generator().manual_seed(8))
    weights = Weights(checkpoint, architecture)
    plain_way = load_decoder(checkpoint)
    passing = Calibration(architecture, weights.top(), texts.tolist())
    told: list[tuple[str, int, np.ndarray]] = []
    for i in range(len(architecture.layers)):
        held = plain_way._blocks[i]  # pyright: ignore[reportPrivateUsage]
        block = {slot: one.numpy() for slot, one in held.items()}

        def choose(slot: str, expert: int, gram: np.ndarray, block: Any = block) -> np.ndarray:
            told.append((slot, expert, gram))
            return (
                block[slot]
                if architecture.experts is None or slot in ("qkv", "out")
                else (block[slot][expert])
            )

        passing.through(i, block, ("qkv", "out", "up", "down"), choose)
    with watched(model) as seen, torch.inference_mode():
        model(texts)
    if architecture.experts is None:
        assert [slot for slot, _, _ in told] == [slot for slot, _ in seen]
    else:
        _experts_share(told, architecture)
        told = [one for one in told if one[0] in ("qkv", "out")]
    for (_, _, ours), (_, theirs) in zip(told, seen, strict=True):
        assert np.abs(ours - theirs.numpy()).max() <= 1e-4 * theirs.abs().max()


def _experts_share(told: list[tuple[str, int, np.ndarray]], architecture: Any) -> None:
    """Every expert is asked for in its turn, and each token counts for as many as it goes to."""
    experts = architecture.experts
    ups = [(e, gram) for slot, e, gram in told if slot == "up"]
    assert [e for e, _ in ups] == [*range(experts.count)] * len(architecture.layers)
    assert [e for slot, e, _ in told if slot == "down"] == [e for e, _ in ups]


# --- the whole way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["llama biases", "granite moe", "gpt-neo", "gemma 3"])
def test_nearer_to_the_floats_than_rounding(case: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(make(case), tmp_path))
    floats = load_native(checkpoint)
    texts = calibration.write(floats, [5], 4 * LENGTH)

    def logits(decoder: Any) -> np.ndarray:
        chunks = [Chunk(text, decoder.new_cache(LENGTH)) for text in texts]
        return decoder.forward(chunks, every=True)

    exact = logits(floats)

    def away(tokens: int) -> float:
        decoder = load_native(checkpoint, "int4", calibration=tokens)
        # The median: a token that goes to another expert is far away whatever the weights' errors.
        return float(np.median(np.square(logits(decoder) - exact).mean(1)))

    assert away(2048) < 0.9 * away(0)


def test_text_of_its_own_begins_as_told_and_is_the_same_each_time(tmp_path: Path) -> None:
    decoder = load_native(open_checkpoint(write(make("llama"), tmp_path)))
    told: list[tuple[int, int]] = []
    texts = calibration.write(decoder, [7], 9000, lambda *done: told.append(done))
    assert [len(text) for text in texts] == [LENGTH] * (9000 // LENGTH)
    assert {text[0] for text in texts} == {7}
    assert len({text[1] for text in texts}) > 10
    assert told[-1] == (len(texts) * LENGTH,) * 2
    assert texts == calibration.write(decoder, [7], 9000)


def test_large_and_tiny_models_are_prepared_with_less_text() -> None:
    assert tokens_for(135_000_000) == tokens_for(1_500_000_000) == TOKENS
    assert FEWEST < tokens_for(7_000_000_000) < TOKENS
    assert FEWEST < tokens_for(12_000_000) < TOKENS
    assert tokens_for(100_000) == tokens_for(1 << 50) == tokens_for(10**15) == FEWEST
