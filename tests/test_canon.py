"""Canonical JSON: one value, one sequence of bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.canon import canonical, digest

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_the_example_of_rfc_8785() -> None:
    value = {
        "numbers": [333333333.3333333, 1e30, 4.5, 2e-3],
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(value) == expected.encode()


@given(VALUES)
def test_nothing_is_lost_and_order_does_not_matter(value: Any) -> None:
    data = canonical(value)
    back = json.loads(data.decode("utf-8", "surrogatepass"))
    assert back == value
    assert canonical(back) == data

    def turned(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: turned(one[key]) for key in reversed(list(one))}
        return [turned(item) for item in one] if isinstance(one, list) else one

    assert canonical(turned(value)) == data


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}])
def test_numbers_that_json_lacks(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical(value)


@pytest.mark.parametrize("value", [{1: "a"}, [{"x": {None: 1}}], {"a": {1, 2}}, object()])
def test_values_that_json_lacks(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def test_a_digest_names_its_algorithm() -> None:
    assert digest(b"x") == "sha256:" + hashlib.sha256(b"x").hexdigest()
