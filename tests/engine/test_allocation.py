"""Which matrices keep eight bits: the bytes are never exceeded, and go where four bits cost most."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.engine import allocation, calibration
from daulat.engine.allocation import measure, spend
from daulat.engine.loading import load_native
from daulat.engine.native import gptq, quantise
from daulat.engine.native.matrices import FORM_NAMES, SPARE, form_bytes, form_for, matrix
from daulat.engine.native.panels import Q4_1, Q8_0
from daulat.engine.native.quantise import restore
from daulat.engine.plain import load_decoder
from daulat.engine.step import Chunk
from daulat.engine.tensors import tensor
from daulat.models.checkpoint import Checkpoint, open_checkpoint
from daulat.models.shelf import LAYOUT, Shelf
from daulat.models.weights import Weights, block_shapes
from daulat.values.architecture import Architecture
from tests.engine.checkpoints import edit_tensors, make, write

pytestmark = pytest.mark.usefixtures("one_thread")

DIGEST = "sha256:" + "5eed0000" * 8
SLOTS = ("qkv", "out", "up", "down")
LITTLE = 1024
"""Tokens of text that tell costs apart."""

# --- how bytes are given out ------------------------------------------------------------------------


@st.composite
def questions(draw: st.DrawFn, kinds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = draw(st.integers(1, 9))
    harms = draw(st.lists(st.floats(0, 10), min_size=count, max_size=count))
    row = st.lists(st.integers(1, 50), min_size=kinds, max_size=kinds)
    sizes = draw(st.lists(row, min_size=count, max_size=count))
    allowed = draw(st.lists(st.integers(0, 200), min_size=kinds, max_size=kinds))
    return np.array(harms), np.array(sizes, dtype=float), np.array(allowed, dtype=float)


@settings(max_examples=200, deadline=None)
@given(question=questions(kinds=2))
def test_never_more_bytes_than_allowed_and_none_left_that_would_do(
    question: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    harms, sizes, allowed = question
    kept = spend(harms, sizes, allowed)
    assert kept == sorted(set(kept))
    left = allowed - sizes[kept].sum(0)
    assert (left >= 0).all()
    if allowed.all():
        others = set(range(len(harms))) - set(kept)
        assert not any((sizes[n] <= left).all() for n in others)


@settings(max_examples=200, deadline=None)
@given(question=questions(kinds=1))
def test_hardly_worse_than_the_best_of_all_choices(
    question: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """By trying them all: what taking by cost for bytes can miss is less than one matrix."""
    harms, sizes, allowed = question
    every = itertools.product((False, True), repeat=len(harms))
    choices = [np.array(one) for one in every]
    best = max(harms[one].sum() for one in choices if sizes[one].sum() <= allowed[0])
    assert harms[spend(harms, sizes, allowed)].sum() >= best - harms.max() - 1e-9


def test_of_equal_sizes_those_that_cost_most() -> None:
    harms = np.array([3.0, 9.0, 1.0, 7.0, 5.0])
    assert spend(harms, np.full((5, 2), 8.0), np.array([24.0, 30.0])) == [1, 3, 4]
    assert spend(harms, np.full((5, 2), 8.0), np.array([24.0, 0.0])) == []


# --- the whole way ----------------------------------------------------------------------------------


def forms_of(checkpoint: Checkpoint, folder: Path) -> dict[str, str]:
    """How each matrix is held, by the prepared file."""
    place = Shelf(folder / "prepared", 1 << 30, 0).place(DIGEST, "int4")
    assert place is not None
    load_native(checkpoint, "int4", calibration=LITTLE, place=place)
    return json.loads((place.look() or {})["forms"])


def bytes_of(forms: dict[str, str], a: Architecture) -> tuple[float, float]:
    """In memory and for a token, of the blocks' matrices."""
    memory = token = 0.0
    for i in range(len(a.layers)):
        for slot, shape in block_shapes(a):
            bare = slot.removeprefix("expert_")
            form = FORM_NAMES.index(forms.get(f"{i}.{bare}", "F32"))
            size = form_bytes(form, int(np.prod(shape)))
            memory += size
            routed = a.experts is not None and bare != slot
            token += size * a.experts.chosen / a.experts.count if a.experts and routed else size
    return memory, token


@pytest.mark.parametrize(
    "case", ["llama", "granite moe", "mixtral", "gpt-neo", "bigcode", "gemma 3"]
)
def test_hardly_more_bytes_than_by_kind_in_any_family(case: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(make(case), tmp_path))
    architecture = checkpoint.architecture
    assert isinstance(architecture, Architecture)
    forms = forms_of(checkpoint, tmp_path)
    slots = {name: name.rpartition(".")[2] for name in forms}
    by_kind = {name: FORM_NAMES[form_for(slot, "int4")] for name, slot in slots.items()}
    assert set(forms.values()) <= {"Q4_1", "Q8_0", "F32"}
    for name, slot in slots.items():
        if slot in ("embed", "head", "router", "positions"):
            assert forms[name] == by_kind[name]
    ours, theirs = bytes_of(forms, architecture), bytes_of(by_kind, architecture)
    assert ours[0] <= (1 + SPARE) * theirs[0]
    assert ours[1] <= (1 + SPARE) * theirs[1]
    # And hardly less: what is left is less than the largest matrix saves.
    assert ours[1] > 0.8 * theirs[1]


def test_eight_bits_go_to_the_block_that_does_something(tmp_path: Path) -> None:
    """Two blocks of three add nothing, so that their four bits cost nothing."""
    folder = write(make("llama"), tmp_path)
    checkpoint = open_checkpoint(folder)
    nothing = {
        name: torch.zeros(checkpoint.tensors[name].shape)
        for i in (0, 2)
        for name in (
            f"model.layers.{i}.{end}.weight" for end in ("self_attn.o_proj", "mlp.down_proj")
        )
    }
    edit_tensors(folder, nothing)
    forms = forms_of(open_checkpoint(folder), tmp_path)
    assert {forms[f"1.{slot}"] for slot in ("qkv", "out", "up", "down")} == {"Q8_0"}


def test_what_four_bits_cost_is_what_the_oracle_says(tmp_path: Path) -> None:
    """In the plain way, with the weights that the blocks stand for."""
    checkpoint = open_checkpoint(write(make("llama"), tmp_path))
    architecture: Any = checkpoint.architecture
    weights = Weights(checkpoint, architecture)
    blocks = [weights.block(i) for i in range(len(architecture.layers))]
    fours = [{s: matrix(block[s], None, Q4_1) for s in SLOTS} for block in blocks]
    names = [(i, slot) for i in range(len(blocks)) for slot in SLOTS]
    texts: list[list[int]] = np.random.default_rng(4).integers(300, size=(3, 80)).tolist()
    parts = load_native(checkpoint, "int8", inputs="int16")._kept  # pyright: ignore[reportPrivateUsage]
    found = measure(parts, fours, names, texts, architecture)
    oracle = load_decoder(checkpoint)
    held = [oracle._top, *oracle._blocks]  # pyright: ignore[reportPrivateUsage]
    for some in held:
        some.update({s: stood_for(one, Q8_0) for s, one in some.items() if one.ndim == 2})
    exact = expected(oracle, texts)
    for (i, slot), cost in zip(names, found, strict=True):
        before = held[i + 1][slot]
        held[i + 1][slot] = stood_for(tensor(blocks[i][slot]), Q4_1)
        off = exact - expected(oracle, texts)
        held[i + 1][slot] = before
        assert cost == pytest.approx(float((exact.exp() * off).sum(1).mean()), rel=0.1)


def stood_for(w: torch.Tensor, form: int) -> torch.Tensor:
    return tensor(restore(quantise.quantise(w.numpy(), form), form))


def expected(decoder: Any, texts: list[list[int]]) -> torch.Tensor:
    """Of all words, behind every fourth token."""
    logits = [decoder.forward([Chunk(text, decoder.new_cache(80))], every=True) for text in texts]
    return tensor(np.concatenate([one[3::4] for one in logits])).double().log_softmax(1)


# --- files that were prepared otherwise -------------------------------------------------------------

RECIPES = {5: "6b055e1318de11f6"}
"""What decides the bytes of four bits, for each layout of prepared files."""


def test_another_recipe_is_another_file() -> None:
    """Whoever changes one of these raises `shelf.LAYOUT`, so that no file made by the old one is found."""
    recipe = (
        *(calibration.TOKENS, calibration.FEWEST, calibration.LENGTH, calibration.WORK),
        *(calibration.ENOUGH, calibration.SEED, calibration.PHRASES),
        *(allocation.TEXTS, allocation.APART, allocation.NUMBERS, SPARE),
        *(gptq.DAMPING, quantise.TRIES, quantise.FIRST, quantise.APART),
        [form_for(slot, "int4") for slot in ("embed", "head", "qkv", "out", "up", "down")],
    )
    found = hashlib.sha256(repr(recipe).encode()).hexdigest()
    assert found[:16] == RECIPES[LAYOUT]
    place = Shelf(Path("prepared"), 1).place(DIGEST, "int4")
    assert place is not None
    assert place.path.name.endswith(f"-int4-v{LAYOUT}.safetensors")
