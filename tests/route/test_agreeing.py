"""Whether two answers say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.route.learning.agreeing import agree

SAME = [
    ("The answer is (B).", "I think so because of the tides. Answer: B"),
    ("7 * 6 = 42\n#### 42", "Forty-two: the answer is 42."),
    ("1,234", "1234"),
    ("Jakarta is the capital of Indonesia.", "The capital of Indonesia is Jakarta."),
    ("", ""),
]
OTHER = [
    ("The answer is (B).", "The answer is (C)."),
    ("#### 42", "#### 43"),
    ("12", "21"),
    ("Jakarta is the capital of Indonesia.", "Tides come twice a day, because of the moon."),
    ("", "Yes, because of the moon."),
]
ANSWERS = st.text(max_size=60) | st.sampled_from([one for pair in SAME + OTHER for one in pair])


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same(one: str, other: str) -> None:
    assert agree(one, other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_something_else(one: str, other: str) -> None:
    assert not agree(one, other)


@given(ANSWERS, ANSWERS)
def test_it_does_not_matter_who_speaks_first(one: str, other: str) -> None:
    assert agree(one, other) == agree(other, one)
    assert agree(one, one)
