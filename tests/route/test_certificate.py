"""A certificate is one value with one form, and void as soon as anything that it rests on has changed."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import CertificateError
from daulat.route.certificate import (
    DOMAIN,
    Certificate,
    Identity,
    Measured,
    Present,
    read,
    void_reasons,
)

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
OPEN = Identity("llama", "native/" + A, B)
CLOSED = Identity("gpt", "rented/gpt-4o")
FIGURE = Measured(0.5, 0.4, 0.6, 0.95, "Wilson", 100)


def certificate(**changed: Any) -> Certificate:
    one = Certificate(
        version=1,
        name="support",
        task="support",
        task_digest=A,
        data_digest=B,
        router=C,
        mode="cascade",
        open=OPEN,
        closed=CLOSED,
        threshold=0.25,
        keep=0.95,
        confidence=0.95,
        kept=FIGURE,
        closed_share=FIGURE,
        saved=Measured(None, None, None, 0.95, "Fieller", 0),
        differ=FIGURE,
        temperature=0.0,
        train=400,
        calibrate=600,
        audit=100,
        set_aside=3,
        method="exact score test, fixed sequence",
        tested=12,
        seed=0,
        made="2026-11-22T02:42:17+00:00",
        program="0.1.0",
    )
    return replace(one, **changed)


def test_it_comes_back_from_json_as_it_was() -> None:
    one = certificate()
    again = read(json.loads(json.dumps(one.as_dict())))
    assert again == one
    assert again.digest() == one.digest()
    assert again.signed_bytes() == one.signed_bytes()
    assert one.signed_bytes().startswith(DOMAIN)


OTHER: dict[str, Any] = {
    "version": 2,
    "task_digest": C,
    "data_digest": C,
    "router": A,
    "mode": "before",
    "open": Identity("phi", A),
    "closed": Identity("gpt", "rented/gpt-5"),
    "threshold": 0.26,
    "keep": 0.96,
    "confidence": 0.96,
    "temperature": 0.5,
    "made": "2026-11-23T02:42:17+00:00",
}


@pytest.mark.parametrize("name", [field.name for field in fields(Certificate)])
def test_no_field_can_change_unnoticed(name: str) -> None:
    one = certificate()
    value = getattr(one, name)
    other = OTHER.get(name)
    if other is None:
        other = {str: "another", int: 77, Measured: replace(FIGURE, value=0.51)}[type(value)]
    plain = one.as_dict()
    plain[name] = (
        other
        if not hasattr(other, "__slots__")
        else {field.name: getattr(other, field.name) for field in fields(other)}
    )
    assert plain != one.as_dict()
    if name == "version":
        with pytest.raises(CertificateError, match="version"):
            read(plain)
        return
    assert read(plain).signed_bytes() != one.signed_bytes()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"router": "sha256:1"}, "router is not a digest"),
        ({"data_digest": ""}, "data_digest"),
        ({"task_digest": "x"}, "task_digest"),
        ({"keep": 0.0}, "keep"),
        ({"keep": float("nan")}, "keep"),
        ({"keep": 1.01}, "keep"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": 0.4}, "confidence"),
        ({"train": -1}, "count"),
        ({"seed": -1}, "seed"),
        ({"kept": replace(FIGURE, low=0.7)}, "ends before it begins"),
        ({"saved": replace(FIGURE, confidence=2.0)}, "impossible confidence"),
        ({"made": "yesterday"}, "not a time"),
        ({"made": "2026-11-22T02:42:17"}, "not a time"),
        ({"name": "x" * 600}, "longer than"),
        ({"open": replace(OPEN, model="x" * 600)}, "longer than"),
        ({"closed": OPEN}, "both endpoints are one"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(CertificateError, match=why):
        certificate(**changed)


def test_json_that_is_none_is_refused() -> None:
    plain = certificate().as_dict()
    for value in (None, [], {}, "x", {**plain, "threshold": "0.2"}, {**plain, "train": 1.5}):
        with pytest.raises(CertificateError, match="not a certificate"):
            read(value)
    for name in plain:
        with pytest.raises(CertificateError, match="not a certificate"):
            read({key: value for key, value in plain.items() if key != name})


def test_a_field_of_another_version_is_not_passed_over() -> None:
    plain = certificate().as_dict()
    for value in (
        {**plain, "also": 1},
        {**plain, "open": {**plain["open"], "also": 1}},
        {**plain, "kept": {**plain["kept"], "also": 1}},
    ):
        with pytest.raises(CertificateError, match="does not know"):
            read(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_nothing_else_is_a_certificate(value: Any) -> None:
    with pytest.raises(CertificateError):
        read(value)


def here(**changed: Any) -> Present:
    known = {"llama": OPEN, "gpt": CLOSED, "other": Identity("other", "x")}
    return replace(Present(C, A, B, known), **changed)


def test_it_stands_while_nothing_has_changed() -> None:
    assert void_reasons(certificate(), here()) == ()
    assert void_reasons(certificate(), Present()) == (), "what is not known is not compared"


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"router": A}, ["router"]),
        ({"task_digest": B}, ["task_digest"]),
        ({"data_digest": A}, ["data_digest"]),
        ({"endpoints": {"llama": replace(OPEN, model=B), "gpt": CLOSED}}, ["open.model"]),
        ({"endpoints": {"llama": replace(OPEN, template=C), "gpt": CLOSED}}, ["open.template"]),
        ({"endpoints": {"llama": replace(OPEN, template=""), "gpt": CLOSED}}, ["open.template"]),
        ({"endpoints": {"llama": OPEN}}, ["closed"]),
        ({"endpoints": {}}, ["open", "closed"]),
        ({"router": B, "data_digest": C}, ["router", "data_digest"]),
    ],
)
def test_it_is_void_when_anything_changes_and_says_what(changed: Any, what: list[str]) -> None:
    reasons = void_reasons(certificate(), here(**changed))
    assert [one.what for one in reasons] == what
    assert all(one.was != one.now for one in reasons)


def test_an_endpoint_that_was_never_known_is_not_missed() -> None:
    one = certificate(open=Identity("llama"), closed=Identity("gpt"), task_digest="")
    assert void_reasons(one, here(endpoints={})) == ()
    assert void_reasons(one, here(task_digest=C)) == ()
    assert void_reasons(one, here(endpoints={"llama": OPEN})) == ()
