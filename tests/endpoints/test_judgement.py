"""Policy and route: pure, so every case is a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat import policy, route
from daulat.errors import PermissionDeniedError
from daulat.policy import Rules
from daulat.values.plan import THIS_MACHINE, Caller, EndpointCard

NAMES = st.sampled_from(["a", "b", "c", "d"])
CARDS = st.lists(
    st.builds(
        EndpointCard, NAMES, st.sampled_from([THIS_MACHINE, "eu", "us"]), st.sampled_from(["open"])
    ),
    max_size=5,
).map(tuple)


@given(
    cards=CARDS,
    places=st.lists(st.sampled_from([THIS_MACHINE, "eu", "us"]), max_size=3).map(tuple),
    models=st.lists(NAMES, max_size=3).map(tuple),
    model=NAMES,
)
def test_only_what_is_permitted_and_in_the_order_given(
    cards: tuple[EndpointCard, ...], places: tuple[str, ...], models: tuple[str, ...], model: str
) -> None:
    caller = Caller("key-1", "a key", models)
    allowed = [card for card in cards if card.place in places]
    if (models and model not in models) or not allowed:
        with pytest.raises(PermissionDeniedError):
            policy.permitted(Rules(places), caller, model, cards)
        return
    verdict = policy.permitted(Rules(places), caller, model, cards)
    assert list(verdict) == allowed
    plan = route.plan(model, "sha256:0", verdict)
    assert [(step.endpoint, step.place) for step in plan.steps] == [
        (card.name, card.place) for card in allowed
    ]
    assert plan == route.plan(model, "sha256:0", verdict)


def test_without_rules_nothing_leaves_this_machine() -> None:
    away = (EndpointCard("rented", "eu", "closed"),)
    with pytest.raises(PermissionDeniedError, match=THIS_MACHINE):
        policy.permitted(Rules(), Caller("key-1", "a key", ()), "m", away)


def test_a_key_for_some_models_covers_no_other() -> None:
    here = (EndpointCard("native", THIS_MACHINE, "open"),)
    with pytest.raises(PermissionDeniedError, match="key-1 may not use the model other"):
        policy.permitted(Rules(), Caller("key-1", "a key", ("m",)), "other", here)
    assert policy.may_use(Caller("key-1", "a key", ()), "anything")


def test_a_key_for_a_model_covers_no_adapter_unless_it_says_so() -> None:
    def may(*models: str) -> list[bool]:
        caller = Caller("key-1", "a key", models)
        return [policy.may_use(caller, name) for name in ("m", "m:a", "m:b", "n:a")]

    assert may("m") == [True, False, False, False]
    assert may("m:a") == [False, True, False, False]
    assert may("m:*") == [False, True, True, False]
    assert may("m", "m:*") == [True, True, True, False]
    assert may("*", "m*", ":*") == [False] * 4
    assert may() == [True] * 4


def test_a_plan_names_the_adapter() -> None:
    here = (EndpointCard("native", THIS_MACHINE, "open"),)
    (step,) = route.plan("m", "sha256:0", here, "a", "sha256:1").steps
    assert (step.model_id, step.adapter_digest) == ("m:a", "sha256:1")
    (step,) = route.plan("m", "sha256:0", here).steps
    assert (step.model_id, step.adapter, step.adapter_digest) == ("m", "", "")
