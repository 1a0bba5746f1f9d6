"""Which requests look like a task's own prompts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.route.learning.profile import SIZE, Profile, profile, vector

SUMS = [
    f"Ana has {n} apples and gives {n // 2} of them to Budi. How many has she?" for n in range(60)
]
MAIL = [f"Write a short letter to customer number {n} about the late delivery." for n in range(60)]


def belongs(found: Profile, prompt: str) -> bool:
    return found.similarity(prompt) >= found.limit


def test_own_prompts_belong_and_others_do_not() -> None:
    sums = profile(SUMS)
    assert belongs(sums, "Ana has 77 apples and gives 12 of them to Budi. How many has she?")
    assert not any(belongs(sums, prompt) for prompt in MAIL)
    assert not belongs(sums, "")


def test_the_nearer_task_is_the_right_one() -> None:
    sums, mail = profile(SUMS[:40]), profile(MAIL[:40])
    assert all(sums.similarity(p) > mail.similarity(p) for p in SUMS[40:])
    assert all(mail.similarity(p) > sums.similarity(p) for p in MAIL[40:])


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_any_prompts_have_a_profile_that_survives_being_stored(prompts: list[str]) -> None:
    found = profile(prompts)
    assert 0 <= found.limit <= 1
    assert np.isfinite(found.mean).all()
    again = Profile.from_json(json.loads(json.dumps(found.to_json())))
    assert again.limit == found.limit
    assert again.similarity(prompts[0]) == pytest.approx(found.similarity(prompts[0]), abs=1e-6)


@given(st.permutations(SUMS[:10]))
def test_the_order_of_prompts_does_not_matter(prompts: list[str]) -> None:
    one, other = profile(prompts), profile(SUMS[:10])
    assert one.limit == pytest.approx(other.limit)
    assert np.allclose(one.mean, other.mean)


@given(st.text())
def test_a_vector_has_length_one_or_is_zero(prompt: str) -> None:
    length = float(np.linalg.norm(vector(prompt)))
    assert length == pytest.approx(1.0) or length == 0.0


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"limit": 0.5, "places": [SIZE], "values": [1.0]},
        {"limit": 0.5, "places": [-1], "values": [1.0]},
        {"limit": 2.0, "places": [], "values": []},
        {"limit": 0.5, "places": [1], "values": []},
        {"limit": 0.5, "places": [1], "values": ["x"]},
        {"limit": 0.5, "places": [1], "values": [float("nan")]},
    ],
)
def test_what_is_no_profile_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="profile"):
        Profile.from_json(told)


def test_no_prompts_no_profile() -> None:
    with pytest.raises(ValueError, match="without prompts"):
        profile([])
