"""What keys cover."""

from __future__ import annotations

import pytest

from daulat import policy
from daulat.errors import PermissionDeniedError
from daulat.values.plan import Caller


def test_a_key_for_some_models_covers_no_other() -> None:
    with pytest.raises(PermissionDeniedError, match="key-1 may not use the model other"):
        policy.must_use(Caller("key-1", "a key", ("m",)), "other")
    policy.must_use(Caller("key-1", "a key", ("m",)), "m")
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


def test_a_key_does_what_it_was_made_for() -> None:
    caller = Caller("key-1", "a key", scopes=("metrics",))
    policy.check_scope(caller, "metrics")
    with pytest.raises(PermissionDeniedError, match="`ask`"):
        policy.check_scope(caller, "ask")
