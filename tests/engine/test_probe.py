"""The hidden-state probe: its projection, and what an engine tells against states computed another way."""

from __future__ import annotations

import hashlib
import math
import queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from daulat.engine.loading import load_native
from daulat.engine.probe import FIGURES, WIDTH, Probe, project, signs
from daulat.engine.rows import rows_of
from daulat.engine.runner import Engine
from daulat.engine.scheduler import Limits
from daulat.engine.scoring import finish, hidden
from daulat.engine.sequence import Ended, Failed, GenerationSequence, Outcome, TextPart
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from daulat.values.request import Sampling
from tests.engine.checkpoints import make, write
from tests.engine.places import Place
from tests.engine.tiny import Numbers, NumberStream, tiny_decoder

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT = [(7 * i * i + 3 * i) % 250 + 1 for i in range(45)]
GREEDY = Sampling(temperature=0.0, ignore_eos=True, logprobs=0, probe=True)
SIGNS_OF_576 = "4ca24825042ff8d75763ad19be3102fec985d95b9010f636a580851a9d243431"

states = arrays(np.float64, st.integers(1, 80), elements=st.floats(-1e6, 1e6))


# --- the projection -----------------------------------------------------------------------------------


def test_the_signs_are_those_that_stored_routers_know() -> None:
    found = np.packbits(signs(576) < 0)
    assert hashlib.sha256(found.tobytes()).hexdigest() == SIGNS_OF_576
    assert set(np.unique(signs(64))) == {-1.0, 1.0}
    assert not np.array_equal(signs(64), signs(65)[:64])


@given(states, st.floats(-8, 8))
def test_it_is_linear(state: np.ndarray, by: float) -> None:
    one, other = project(state), project(state[::-1].copy())
    both = project(by * state + state[::-1])
    assert np.allclose(both, by * one + other, rtol=1e-9, atol=1e-3)


def test_lengths_and_angles_are_kept_on_average() -> None:
    random = np.random.default_rng(1)
    drawn = random.standard_normal((400, 256)) * random.uniform(0.1, 10, 256)
    found = np.array([project(one) for one in drawn])
    ratio = (found**2).sum(axis=1) / (drawn**2).sum(axis=1)
    # The variance over projections is 2 / WIDTH of each; of the mean, what all share.
    assert abs(ratio.mean() - 1) < 0.1
    assert ratio.std() < 2 * (2 / WIDTH) ** 0.5
    products = (found[::2] * found[1::2]).sum(axis=1) - (drawn[::2] * drawn[1::2]).sum(axis=1)
    lengths = np.linalg.norm(drawn[::2], axis=1) * np.linalg.norm(drawn[1::2], axis=1)
    assert (np.abs(products) / lengths).mean() < 2 * WIDTH**-0.5


@given(st.lists(arrays(np.float32, 48, elements=st.floats(-1e4, 1e4, width=32)), max_size=6))
def test_a_probe_is_the_mean_and_the_last(several: list[np.ndarray]) -> None:
    probe = Probe()
    for one in several:
        probe.add(one)
    found = probe.figures()
    if not several:
        assert found == ()
        return
    assert len(found) == FIGURES
    assert all(math.isfinite(x) and x == float(f"{x:.6g}") for x in found)
    assert not any(x == 0 and math.copysign(1, x) < 0 for x in found)
    doubles = np.array(several, np.float64)
    mean = doubles.mean(axis=0)
    near = {"rtol": 1e-5, "atol": 1e-6 * float(np.abs(doubles).max() + 1)}
    assert np.allclose(found[:WIDTH], project(mean), **near)
    assert np.allclose(found[WIDTH:], project(doubles[-1]), **near)


# --- an engine's answers --------------------------------------------------------------------------------


class Endless(Numbers):
    """No token ends an answer."""

    eos_ids: frozenset[int] = frozenset()


def answered(
    engine: Engine, sampling: Sampling = GREEDY, limit: int = 20, **more: Any
) -> tuple[list[int], Ended]:
    """The answer's tokens, and its end."""
    heard: queue.Queue[Outcome] = queue.Queue()
    engine.submit(
        [
            GenerationSequence(
                PROMPT, sampling, limit, 3, 0, Endless(), NumberStream(), heard.put, **more
            )
        ]
    )
    tokens: list[int] = []
    while True:
        outcome = heard.get(timeout=60)
        assert not isinstance(outcome, Failed), outcome
        if isinstance(outcome, TextPart):
            tokens += [int(one.text) for one in outcome.logprobs]
        if isinstance(outcome, Ended):
            return tokens, outcome


def expected(decoder: Any, tokens: list[int]) -> np.ndarray:
    """The figures of an answer, out of the states of prompt and answer read as one text."""
    (every,) = finish(hidden(decoder, [PROMPT + tokens[:-1]], "all"))
    chosen = every[len(PROMPT) - 1 :].astype(np.float64)
    assert len(chosen) == len(tokens)
    return np.concatenate([project(chosen.mean(axis=0)), project(chosen[-1])])


@pytest.mark.parametrize(("family", "numbers"), [("llama", "float32"), ("llama head size", "int8")])
def test_the_native_engine_against_the_states_of_the_whole_text(
    family: str, numbers: Any, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(write(make(family), tmp_path))
    decoder = load_native(checkpoint, numbers, threads=2)
    oracle = load_native(checkpoint, "float32", threads=2)
    engine = Engine(decoder, Limits(2, 8, 2048, 16), "probed")
    tokens, end = answered(engine)
    drawn, drawn_end = answered(engine, Sampling(ignore_eos=True, logprobs=0, probe=True))
    engine.close()
    near = 1e-4 if numbers == "float32" else 0.2
    for said, told in ((tokens, end.probe), (drawn, drawn_end.probe)):
        right = expected(oracle, said)
        assert np.linalg.norm(told - right) < near * np.linalg.norm(right)
    assert end.probe != drawn_end.probe


def test_the_engine_in_pytorch_against_the_same(place: Place) -> None:
    """With captured steps too: where a probe is asked for, they give states and logits one after the other."""
    decoder = tiny_decoder(place=place)
    engine = Engine(decoder, Limits(2, 8, 2048, 16), "probed")
    tokens, end = answered(engine)
    plain, without = answered(engine, Sampling(temperature=0.0, ignore_eos=True, logprobs=0))
    engine.close()
    assert plain == tokens
    assert without.probe == ()
    right = expected(tiny_decoder(), tokens)
    assert np.linalg.norm(end.probe - right) < 1e-3 * np.linalg.norm(right)


def test_an_answer_of_no_tokens_has_none(place: Place) -> None:
    engine = Engine(tiny_decoder(place=place), Limits(2, 8, 2048, 16), "probed")
    _, end = answered(engine, limit=0, echo=[bytes([t]) for t in PROMPT])
    engine.close()
    assert (end.completion_tokens, end.probe) == (0, ())


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.booleans()), min_size=1, max_size=5),
    st.integers(1, 2000),
)
def test_rows_come_with_their_states(parts: list[tuple[int, bool, bool]], most: int) -> None:
    decoder = tiny_decoder()

    def chunks() -> list[Chunk]:
        return [
            Chunk(
                PROMPT[:count],
                decoder.new_cache(count),
                wanted=range(count // 2, count) if several else None,
                written=written,
            )
            for count, several, written in parts
        ]

    alone = list(rows_of(decoder, chunks(), most))
    found = list(rows_of(decoder, chunks(), most, states=True))
    all_states = decoder.states(chunks())
    assert [one.states for one in alone] == [None] * len(alone)
    assert [(one.chunk, one.last) for one in found if one.last] == [
        (one.chunk, one.last) for one in alone if one.last
    ]
    gathered = np.concatenate([one.states for one in found if one.states is not None])
    assert np.array_equal(gathered, all_states)
    logits = [np.concatenate([one.logits for one in some]) for some in (alone, found)]
    assert np.allclose(*logits, atol=1e-4)
