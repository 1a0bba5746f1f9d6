"""What is taken out comes back, byte for byte, however the answer is cut and however a model writes it."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import plant

from daulat.errors import GuardError, InternalError
from daulat.guard.patterns import pattern
from daulat.guard.placeholders import LONGEST
from daulat.guard.redaction import Redactor
from daulat.guard.scan import Detectors, scan

ALL = Detectors()
ODD = Detectors(patterns=(pattern("a_b", "xx+", "own"), pattern("ab2", "yy+", "own")))

# Texts of the pieces that could be mistaken for something: ours, escapes, values, half placeholders.
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "a@example.com",
                    "b@example.com",
                    "0812-3456-7890",
                    "xx",
                    "xxx",
                    "yy",
                    "<",
                    ">",
                    "\\",
                    "_",
                    "1",
                ),
                *(
                    "<EMAIL_1>",
                    "EMAIL_2",
                    "email 1",
                    "<email_1>",
                    "&lt;",
                    "&",
                    "\\_",
                    "<A_B_1>",
                    "AB_1",
                    " ",
                    "\n",
                ),
                *('"', "[", "]", "EMAIL", "PHONE_1", "E", "u003c", "\\n", "{", "}"),
            ]
        ),
        st.text(max_size=5),
    ),
    max_size=12,
).map("".join)


def redactor(*texts: str, detectors: Detectors = ALL) -> Redactor:
    return Redactor(texts, detectors)


def test_the_same_value_has_the_same_placeholder() -> None:
    one, two = "Mail a@example.com or b@example.com", "a@example.com, 0812-3456-7890"
    both = redactor(one, two)
    assert both.redact(one) == "Mail <EMAIL_1> or <EMAIL_2>"
    assert both.redact(two) == "<EMAIL_1>, <PHONE_1>"
    assert both.count == 3
    assert both.restore("<PHONE_1> for <EMAIL_2>") == "0812-3456-7890 for b@example.com"


def test_only_the_classes_that_are_asked_for() -> None:
    text = "a@example.com from 192.168.1.10"
    assert (
        Redactor([text], ALL, frozenset({"internal"})).redact(text)
        == "a@example.com from <PRIVATE_IP_1>"
    )


def test_a_placeholder_of_the_user_is_not_ours() -> None:
    text = "What is <EMAIL_1>, email 2 or EMAIL\\_3? Ask a@example.com"
    ours = redactor(text)
    assert ours.redact(text).endswith("Ask <EMAIL_4>")
    assert ours.restore("<EMAIL_1> email 2 <EMAIL_4>") == "<EMAIL_1> email 2 a@example.com"


def test_a_text_that_the_redactor_does_not_know() -> None:
    with pytest.raises(InternalError):
        redactor("a").redact("b")


@pytest.mark.parametrize(
    "written",
    [
        *(
            "<EMAIL_1>",
            "<email_1>",
            "< EMAIL_1 >",
            "<EMAIL 1>",
            "<Email-1>",
            r"\<EMAIL\_1\>",
            r"<EMAIL\_1>",
        ),
        *("EMAIL_1", r"EMAIL\_1", "&lt;EMAIL_1&gt;", r"<EMAIL_1\>"),
    ],
)
def test_what_models_write(written: str) -> None:
    text = "a@example.com"
    ours = redactor(text)
    ours.redact(text)
    assert ours.restore(f"to {written}.") == "to a@example.com."
    assert ours.restore(f"**{written}**") == "**a@example.com**"


@pytest.mark.parametrize(
    "written",
    [
        "<EMAIL_2>",
        "<EMAIL_11>",
        "email 1",
        "EMAIL_12",
        "MY_EMAIL_1",
        "EMAIL_1A",
        "</EMAIL_1x>",
        "<EMAIL_01>",
    ],
)
def test_what_is_not_certain_stays(written: str) -> None:
    text = "a@example.com"
    ours = redactor(text)
    ours.redact(text)
    assert ours.restore(written) == written


def test_a_backslash_before_a_value_stays() -> None:
    text = r"C:\a@example.com"
    ours = redactor(text)
    assert ours.restore(ours.redact(text)) == text


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=3))
def test_round_trip(texts: list[str]) -> None:
    ours = Redactor(texts, ODD)
    for text in texts:
        hidden = ours.redact(text)
        assert ours.restore(hidden) == text
        pieces, at = [], 0
        for one in scan([text], ODD).findings[0]:
            pieces += [re.escape(text[at : one.start]), "<[A-Z_]+_[0-9]+>"]
            at = one.end
        assert re.fullmatch("".join([*pieces, re.escape(text[at:])]), hidden)


@settings(max_examples=500, deadline=None)
@given(PIECES, PIECES, st.data(), st.booleans())
def test_any_split_gives_the_same(
    text: str, answer: str, data: st.DataObject, is_json: bool
) -> None:
    ours = Redactor([text], ODD)
    answer = (
        data.draw(
            st.permutations(
                [ours.redact(text), answer, "<Email 1>", r"\<A\_B\_1\>", r"\u003cAB_1\u003e"]
            )
        )[0]
        + answer
    )
    whole = ours.restore(answer, json=is_json)
    restorer = ours.restorer(json=is_json)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=8)))
    pieces = [
        answer[left:right] for left, right in zip([0, *cuts], [*cuts, len(answer)], strict=True)
    ]
    assert "".join(map(restorer.feed, pieces)) + restorer.finish() == whole
    one_by_one = ours.restorer(json=is_json)
    assert "".join(map(one_by_one.feed, answer)) + one_by_one.finish() == whole


def test_little_is_held_back() -> None:
    text = "a@example.com"
    ours = redactor(text)
    ours.redact(text)
    restorer = ours.restorer()
    for piece in ("The answer ", "is 1 < 2, ", "[x] ", "THE END"):
        assert restorer.feed(piece) == piece
    assert restorer.feed(" <EM") == " "
    assert restorer.feed("AIL_1") == ""
    assert restorer.feed("> yes") == "a@example.com yes"
    hostile = ours.restorer()
    given_out = sum(len(hostile.feed("<")) for _ in range(10_000))
    assert given_out >= 10_000 - LONGEST


# --- JSON -----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | PIECES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PIECES, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(JSON, st.booleans())
def test_json_stays_json(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    ours = Redactor([text], ODD)
    hidden = ours.redact(text, json=True)
    json.loads(hidden)
    assert ours.restore(hidden, json=True) == text


def test_values_behind_escapes_are_found() -> None:
    text = r'{"to": "line\na\u0040example.com", "say": "\"hi\""}'
    ours = redactor(text)
    hidden = ours.redact(text, json=True)
    assert hidden == r'{"to": "line\n<EMAIL_1>", "say": "\"hi\""}'
    assert ours.restore("<EMAIL_1>") == "a@example.com"
    assert ours.restore(hidden, json=True) == text


def test_a_restored_value_is_escaped_in_json() -> None:
    text = "password: pa\\ss\\w0rd-X"
    ours = redactor(text)
    placeholder = ours.redact(text).removeprefix("password: ")
    restored = ours.restore(json.dumps({"a": f"x {placeholder}"}), json=True)
    assert json.loads(restored) == {"a": "x pa\\ss\\w0rd-X"}
    quoted = json.dumps({"a": placeholder}).replace("<", r"\u003c").replace(">", r"\u003e")
    assert json.loads(ours.restore(quoted, json=True)) == {"a": "pa\\ss\\w0rd-X"}


def test_a_number_in_json_becomes_a_string() -> None:
    text = '{"nik": 3171011708450001}'
    ours = redactor(text)
    assert ours.redact(text, json=True) == '{"nik": "<ID_NIK_1>"}'
    assert ours.restore('{"nik": "<ID_NIK_1>"}', json=True) == '{"nik": "3171011708450001"}'


def test_what_goes_over_the_edge_of_a_string_closes_the_door() -> None:
    own = Detectors(patterns=(pattern("edge", "x.{2,9}y", "own"),))
    text = '["x", "y"]'
    with pytest.raises(GuardError, match="edge"):
        Redactor([text], own).redact(text, json=True)


def test_planted_identifiers_are_gone_and_come_back() -> None:
    random = Random(4)
    for _ in range(2000):
        one = plant(random)
        ours = redactor(one.text)
        hidden = ours.redact(one.text)
        assert one.value not in hidden
        assert ours.restore(hidden) == one.text
