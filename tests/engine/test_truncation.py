"""What top_k, min_p and top_p leave: asked about one token, beside all of it found at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from daulat.engine import truncation
from daulat.engine.truncation import Ranked, leaves, left, weights
from daulat.values.request import Sampling

Floats = NDArray[np.float32]

LOGITS = st.lists(st.integers(-12, 12) | st.floats(-30, 30, width=32), min_size=1, max_size=40).map(
    lambda values: np.array(values, dtype=np.float32)
)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.integers(0, 12),
    min_p=st.sampled_from([0.0, 0.01, 0.2, 0.9]),
    top_p=st.sampled_from([0.01, 0.3, 0.5, 0.9, 0.99, 1.0]),
)


def oracle(logits: Floats, s: Sampling) -> set[int]:
    ids, found = left(logits, s)
    kept = np.flatnonzero(found)
    return set((kept if ids is None else ids[kept]).tolist())


def assume_clear(logits: Floats, s: Sampling) -> None:
    """No border where the order of a sum decides."""
    _ids, found = left(logits, Sampling(temperature=s.temperature, top_k=s.top_k, min_p=s.min_p))
    falling = np.sort(found)[::-1]
    mass = np.cumsum(falling) / falling.sum()
    assume(np.abs(mass - s.top_p).min() > 1e-8 or s.top_p == 1)
    assume(np.abs(weights(logits, s.temperature) - s.min_p).min() > 1e-8 or s.min_p == 0)


@given(LOGITS, SAMPLINGS)
def test_one_token_is_left_where_it_is_among_all_that_are(logits: Floats, s: Sampling) -> None:
    assume_clear(logits, s)
    found = weights(logits, s.temperature)
    told = {i for i in range(len(logits)) if leaves(found, float(found.sum()), i, s)}
    assert {i for i in told if found[i] > 0} == oracle(logits, s)


@given(LOGITS, SAMPLINGS, st.data(), st.sampled_from([0, 1, 3, 256]))
def test_what_questions_tell_is_what_is_left_of_all_that_is_allowed(
    logits: Floats, s: Sampling, data: st.DataObject, questions: int
) -> None:
    allowed = data.draw(st.sets(st.integers(0, len(logits) - 1), min_size=1))
    ids = np.array(sorted(allowed))
    assume_clear(logits[ids], s)
    expected = {int(ids[i]) for i in oracle(logits[ids], s)}
    found, asked = weights(logits, s.temperature), 0

    def allows(token: int) -> bool:
        nonlocal asked
        asked += 1
        return token in allowed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truncation, "_QUESTIONS", questions)
        ranked = Ranked(found, float(found.sum()), s, allows)
    order = data.draw(st.permutations(range(len(logits))))
    for token in order:
        if found[token] > 0:  # else it is never drawn
            told = ranked.leaves(token)
            assert told is None or told == (token in expected)
    assert asked <= questions + len(logits)


@given(LOGITS, SAMPLINGS, st.data())
def test_with_enough_questions_all_is_told(
    logits: Floats, s: Sampling, data: st.DataObject
) -> None:
    """Where nothing is much less likely than the likeliest token, and no border is near."""
    logits = logits.clip(-2, 2)
    allowed = data.draw(st.sets(st.integers(0, len(logits) - 1), min_size=1))
    ids = np.array(sorted(allowed))
    assume_clear(logits[ids], s)
    expected = {int(ids[i]) for i in oracle(logits[ids], s)}
    found = weights(logits, s.temperature)
    for token in range(len(logits)):
        ranked = Ranked(found, float(found.sum()), s, allowed.__contains__)
        assert ranked.leaves(token) is (token in expected)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_nucleus_that_ends_at_a_tokens_border(share: float) -> None:
    s, found = Sampling(top_p=share), np.ones(8)
    assert [leaves(found, 8.0, i, s) for i in range(8)] == [i < 8 * share for i in range(8)]


@pytest.mark.parametrize(
    ("s", "out"),
    [
        (Sampling(top_p=0.95), 9),
        (Sampling(top_k=1), 9),
        (Sampling(min_p=0.05), 9),
        (Sampling(top_p=0.5), 9),
    ],
)
def test_a_likely_token_takes_few_questions(s: Sampling, out: int) -> None:
    logits = (np.random.default_rng(3).standard_normal(49_152) * 3).astype(np.float32)
    logits[7] += 30
    logits[out] = logits[7] - 4
    found, asked = weights(logits, s.temperature), list[int]()

    def allows(token: int) -> bool:
        asked.append(token)
        return token % 2 == 1

    assert Ranked(found, float(found.sum()), s, allows).leaves(7)
    assert len(asked) <= 4
    asked.clear()
    assert Ranked(found, float(found.sum()), s, allows).leaves(out) is False
    assert len(asked) <= 8
