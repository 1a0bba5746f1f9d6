"""The script's parts: tokens and pieces, names of faults, smallest instances, files of answers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from daulat.endpoints.scripted import (
    FAULTS,
    Answer,
    Call,
    Chance,
    Chosen,
    Delays,
    Script,
    UnknownFaultError,
    chosen,
    recorded,
    words,
)
from daulat.endpoints.scripted.faults import named
from daulat.endpoints.scripted.instances import instance
from daulat.endpoints.scripted.reply import costs
from daulat.endpoints.scripted.script import pieces
from daulat.errors import SettingsError
from daulat.values.tokens import counted

ROOT = Path(__file__).parents[3]


@given(st.text())
def test_a_token_is_four_bytes(text: str) -> None:
    assert counted(text) == math.ceil(len(text.encode()) / 4)


@given(st.text())
def test_pieces_make_the_text_and_their_costs_its_tokens(text: str) -> None:
    found = pieces(text)
    assert "".join(found) == text
    assert all(1 <= len(piece.encode()) <= 4 for piece in found)
    so_far = 0
    for index, cost in enumerate(costs(found)):
        so_far += cost
        assert so_far == counted("".join(found[: index + 1]))


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_a_piece_of_plain_letters_is_a_token(text: str) -> None:
    assert costs(pieces(text)) == [1] * counted(text)


@pytest.mark.parametrize("count", [0, 1, 7, 200])
def test_words_are_tokens(count: int) -> None:
    text = words(count)
    assert counted(text) == len(pieces(text)) == len(text.split()) == count
    assert {len(piece) for piece in pieces(text)} <= {4}


@given(
    st.sampled_from(sorted(FAULTS)),
    st.integers(0, 1_000_000),
    st.from_regex(r"[a-z./-]{1,20}\+?", fullmatch=True),
)
def test_a_models_name_carries_its_fault(fault: str, k: int, model: str) -> None:
    assert named(model) == (model, None)
    default = FAULTS[fault].default
    assert named(f"{model}+{fault}") == (model, Chosen(fault, default or 0))
    if default is None:
        with pytest.raises(UnknownFaultError):
            named(f"{model}+{fault}@{k}")
    else:
        assert named(f"{model}+{fault}@{k}") == (model, Chosen(fault, k))
        assert chosen(str(Chosen(fault, k))) == Chosen(fault, k)


@pytest.mark.parametrize(
    "words_", ["", "x", "stalls@", "stalls@-1", "stalls@x", "stalls@1000001", "stalls@٣"]
)
def test_faults_that_are_none(words_: str) -> None:
    with pytest.raises(UnknownFaultError):
        chosen(words_)


def test_the_page_has_the_codes_table() -> None:
    page = (ROOT / "docs" / "scripted.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)`(?:<br>K: (.*?) \[(\d+)\])? \| (.*?) \| (.*?) \| (.*?) \|$", page, re.M
    )
    told = {
        name: (count, int(default) if default else None, stream, whole, billed)
        for name, count, default, stream, whole, billed in rows
    }
    assert told == {
        row.name: (row.count, row.default, row.stream, row.whole, row.billed)
        for row in FAULTS.values()
    }


SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    {"type": "array", "items": {"type": "integer", "minimum": 3}, "minItems": 2},
    {"enum": ["x", 1]},
    {"const": None},
    {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 0.5},
    {"type": "integer", "multipleOf": 7, "minimum": 8},
    {"type": "integer", "exclusiveMaximum": 0},
    {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
    {"type": "string", "minLength": 9},
    {"type": "string", "maxLength": 2},
    {"type": "string", "format": "date"},
    {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    {"oneOf": [{"$ref": "#/$defs/node"}], "$defs": {"node": {"type": "boolean"}}},
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "null"}}, "required": ["b"]},
        ]
    },
    {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/tree"}},
        "required": ["tree"],
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"left": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
                "required": ["left"],
            }
        },
    },
)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_smallest_instance_fits(schema: dict[str, Any]) -> None:
    Draft202012Validator(schema, validate_formats=True).validate(instance(schema))


def test_a_schema_without_end_ends() -> None:
    endless = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert instance(endless) is None


def test_recorded_answers(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"text": "Ya."}\n\n{"tool_calls": [{"name": "look", "arguments": "{}"}]}\n')
    assert recorded(file) == (Answer("Ya."), Answer(calls=(Call("look", "{}"),)))
    file.write_text('{"text": "Ya."}\n{"word": 1}\n')
    with pytest.raises(SettingsError, match="Line 2"):
        recorded(file)
    file.write_text("\n")
    with pytest.raises(SettingsError):
        recorded(file)
    with pytest.raises(SettingsError):
        recorded(tmp_path / "none")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Script(words=-1),
        lambda: Script(calls=1000),
        lambda: Delays(between=-1),
        lambda: Delays(first=float("nan")),
        lambda: Script(chances=(Chance(Chosen("slow"), 0.6), Chance(Chosen("stalls"), 0.6))),
        lambda: Script(chances=(Chance(Chosen("slow"), -0.1),)),
    ],
)
def test_numbers_out_of_bounds(make: Any) -> None:
    with pytest.raises(SettingsError):
        make()
