"""The wire's types: what is taken, what is refused by which name, and the two tables of fields."""

from __future__ import annotations

import base64
import contextlib
import math
import re
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import DaulatError, RequestError, UnknownFieldError, UnsupportedFieldError
from daulat.server.wire.chat import ChatCompletionRequest, ChatMessage
from daulat.server.wire.common import Generation
from daulat.server.wire.completions import CompletionBody, Offsets
from daulat.server.wire.decode import decode
from daulat.server.wire.embeddings import EmbeddingBody, encode_vector
from daulat.server.wire.fields import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    HARMLESS,
    MODERATIONS,
    REFUSED,
    REFUSED_IN_MESSAGES,
)
from daulat.server.wire.messages import fields as messages
from daulat.server.wire.messages.blocks import ImageBlock, TextBlock, ToolUseBlock
from daulat.server.wire.messages.requests import CustomTool, MessagesBody
from daulat.server.wire.moderations import ModerationBody
from daulat.server.wire.responses import fields as responses
from daulat.server.wire.responses.items import InputItem
from daulat.server.wire.responses.requests import FunctionTool, ResponsesBody
from daulat.values.answer import TokenLogprob
from daulat.values.request import Structure, Tool, Toolbox, ToolCall

API = Path(__file__).parents[2] / "docs" / "api.md"
MESSAGE = {"role": "user", "content": "hello"}
TYPES: dict[str, type[msgspec.Struct]] = {
    CHAT: ChatCompletionRequest,
    COMPLETIONS: CompletionBody,
    EMBEDDINGS: EmbeddingBody,
    MODERATIONS: ModerationBody,
}


def chat(**fields: Any) -> Any:
    body = {"model": "m", "messages": [MESSAGE], **fields}
    return decode(msgspec.json.encode(body), ChatCompletionRequest).to_request()


def completion(**fields: Any) -> Any:
    body = {"model": "m", "prompt": "p", **fields}
    return decode(msgspec.json.encode(body), CompletionBody).to_request()


def embedding(**fields: Any) -> Any:
    return decode(msgspec.json.encode({"model": "m", **fields}), EmbeddingBody).to_request()


def fault(make: Any, **fields: Any) -> DaulatError:
    with pytest.raises(DaulatError) as caught:
        make(**fields)
    assert len(caught.value.message) < 400
    return caught.value


def test_the_least_request_has_the_defaults_of_the_api() -> None:
    sampling = chat().sampling
    assert (sampling.temperature, sampling.top_p, sampling.n) == (1.0, 1.0, 1)
    assert sampling.max_tokens is None
    assert sampling.logprobs is None
    assert completion().sampling.max_tokens == 16


def test_null_is_the_same_as_nothing() -> None:
    names = [f.name for f in msgspec.structs.fields(Generation) if not f.required]
    assert chat(**dict.fromkeys(names)) == chat()


def test_all_sampling_fields_arrive() -> None:
    sampling = chat(
        max_completion_tokens=7,
        temperature=0,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        presence_penalty=-2,
        frequency_penalty=2,
        repetition_penalty=1.1,
        seed=-5,
        stop=["a", "b"],
        logit_bias={"5": -100, "7": 1.5},
        n=2,
        ignore_eos=True,
        logprobs=True,
        top_logprobs=3,
    ).sampling
    assert sampling.max_tokens == 7
    assert sampling.temperature == 0
    assert sampling.stop == ("a", "b")
    assert sampling.logit_bias == {5: -100.0, 7: 1.5}
    assert sampling.logprobs == 3
    assert (sampling.top_k, sampling.min_p, sampling.seed) == (3, 0.1, -5)
    assert sampling.ignore_eos is True
    assert chat(stop="x").sampling.stop == ("x",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [MESSAGE, {"role": "user", "content": 5}]}, "messages[1].content"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_out_of_bounds_names_the_field(fields: dict[str, Any], param: str) -> None:
    error = fault(chat, **fields)
    assert type(error) is RequestError
    assert error.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [{}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"input_audio": {}, "type": "input_audio"}]}
                ]
            },
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "assistant", "content": "x", "function_call": {}}]},
            "messages[0].function_call",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = fault(chat, **fields)
    assert type(error) is UnsupportedFieldError
    assert error.param == param


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def test_tools_and_their_conversation_arrive() -> None:
    result = {"role": "tool", "content": "2", "tool_call_id": "c1"}
    request = chat(
        messages=[MESSAGE, CALLING, result], tools=[TOOL], tool_choice="required",
        parallel_tool_calls=False,
    )  # fmt: skip
    assert request.messages[1].tool_calls == (ToolCall("c1", "f", '{"a": 1}'),)
    assert request.messages[2].tool_call_id == "c1"
    assert request.tools == Toolbox((Tool("f", None, {"type": "object"}),), "required", None, False)
    named = chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}}).tools
    assert (named.choice, named.named) == ("required", "f")
    assert chat(tools=[TOOL]).tools.choice == "auto"
    assert chat(tools=[]).tools is None


def test_structures_arrive() -> None:
    schema = {"type": "object"}
    strict = {"name": "x", "schema": schema, "strict": True}
    asked = chat(response_format={"type": "json_schema", "json_schema": strict}).structure
    assert asked == Structure("json", schema, "response_format.json_schema.schema", "x", True)
    described = {"name": "x", "description": "A city.", "schema": schema}
    asked = chat(response_format={"type": "json_schema", "json_schema": described}).structure
    assert asked.source == {"description": "A city.", "type": "object"}
    assert chat(response_format={"type": "json_object"}).structure.source == schema
    assert chat(response_format={"type": "text"}).structure is None
    for make in (chat, completion):
        asked = make(structured_outputs={"choice": ["a", "b"]}).structure
        assert asked == Structure("choice", ("a", "b"), "structured_outputs.choice")
        assert make(structured_outputs={"regex": "a"}).structure.kind == "regex"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "always", "tools": [TOOL]}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "", "schema": {}}}},
            "response_format.json_schema.name",
        ),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"disable_fallback": True}}, "structured_outputs.disable_fallback"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c9"}]},
            "messages[0].tool_call_id",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]},
            "messages[0].tool_calls",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        *(
            (
                {"messages": [{**CALLING, "tool_calls": [
                    {**CALL, "function": {"name": "f", "arguments": bad}}]}]},
                "messages[0].tool_calls[0].function.arguments",
            )
            for bad in ("[1]", "{", "nul", "NaN", '{"a": NaN}', "[" * 200_000)
        ),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_structures_and_tools_out_of_bounds_name_the_field(fields: Any, param: str) -> None:
    error = fault(chat, **fields)
    assert error.status == 400
    assert error.param == param


def test_neutral_values_are_taken() -> None:
    assert chat(
        tools=[],
        tool_choice="none",
        functions=None,
        response_format={"type": "text"},
        modalities=["text"],
    )
    message = {"role": "assistant", "content": "x", "refusal": None, "annotations": []}
    assert chat(messages=[message, MESSAGE]).messages[0].content == "x"
    said = {"role": "assistant", "content": None, "refusal": "no", "reasoning_content": "hm"}
    assert chat(messages=[said, MESSAGE]).messages[0].content == "no"
    for field in ("refusal", "reasoning_content"):
        wrong = {"role": "user", "content": "x", field: "y"}
        assert fault(chat, messages=[wrong]).param == f"messages[0].{field}"
    assert completion(suffix="", best_of=2, n=2)
    assert embedding(input="x", dimensions=None)


def test_completions_and_embeddings_refuse_by_name_too() -> None:
    assert fault(completion, suffix="x").param == "suffix"
    assert fault(completion, best_of=3).param == "best_of"
    assert embedding(input="x", dimensions=64).dimensions == 64
    assert fault(embedding, input="x", dimensions=0).param == "dimensions"


def test_an_unknown_field_is_refused_by_name() -> None:
    for make in (chat, completion):
        error = fault(make, temprature=1)
        assert type(error) is UnknownFieldError
        assert error.param == "temprature"
    part = {"type": "text", "text": "x", "colour": "red"}
    error = fault(chat, messages=[{"role": "user", "content": [part]}])
    assert type(error) is UnknownFieldError
    assert error.param == "messages[0].content[0].colour"


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat(messages=[{"role": "user", "content": parts}]).messages[0].content == "ab"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_the_four_shapes_of_a_prompt(value: Any, expected: Any) -> None:
    assert completion(prompt=value).prompts == expected
    assert embedding(input=value).inputs == expected


@pytest.mark.parametrize(
    "value", ["", [], [""], [[]], ["a", 1], [1, [2]], [-1], [1.5], [True], {}, ["x"] * 257]
)
def test_other_shapes_are_refused(value: Any) -> None:
    assert (fault(completion, prompt=value).param or "").startswith("prompt")
    assert (fault(embedding, input=value).param or "").startswith("input")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"model": "m"',
        b"\xef\xbb\xbf{}",
        b'{"\xff": 1}',
        b'{"model": "\xff\xfe"}',
        b'{"model": "\\ud800"}',
        b'{"model": "\\udc00"}',
        b'{"model": "\\ud800\\u0041"}',
        b'{"model": NaN}',
        b"[" * 1_000_000,
        b'{"model": ' * 300_000,
        b'{"prediction": ' + b"[" * 1_000_000,
        b'{"prediction": ' + b'{"a":' * 500_000,
    ],
)
def test_broken_bodies_are_the_clients_fault(body: bytes) -> None:
    for kind in (ChatCompletionRequest, CompletionBody, EmbeddingBody):
        with pytest.raises(DaulatError) as caught:
            decode(body, kind)
        assert caught.value.status == 400


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with pytest.raises(DaulatError):
        decode(body, ChatCompletionRequest)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([f.name for f in msgspec.structs.fields(ChatCompletionRequest)]),
)
def test_no_value_of_a_field_raises_anything_else(value: Any, name: str) -> None:
    body = msgspec.json.encode({"model": "m", "messages": [MESSAGE], name: value})
    # Nothing but an error of the client, however strange the value.
    with contextlib.suppress(RequestError):
        msgspec.json.encode(decode(body, ChatCompletionRequest).to_request())


def test_a_position_is_named_in_broken_json() -> None:
    with pytest.raises(RequestError, match=r"byte 9"):
        decode(b'{"model" "m"}', ChatCompletionRequest)


def test_duplicate_keys_are_taken_with_the_last_value() -> None:
    body = b'{"model":"a","model":"b","input":"x"}'
    assert decode(body, EmbeddingBody).model == "b"


def test_base64_is_little_endian_float32() -> None:
    vector = (0.5, -1.25, 3.0)
    encoded = encode_vector(vector, "base64")
    assert isinstance(encoded, str)
    assert struct.unpack("<3f", base64.b64decode(encoded)) == vector
    assert encode_vector(vector, None) == list(vector)


def test_text_offsets_count_characters_across_split_ones() -> None:
    def token(data: bytes) -> TokenLogprob:
        return TokenLogprob(data.decode("utf-8", "replace"), data, -1.0)

    first, second = "é".encode()[:1], "é".encode()[1:]
    found = Offsets().logprobs((token(b"a"), token(first), token(second), token(b"b")), 0)
    assert found.text_offset == [0, 1, 1, 2]
    assert found.tokens == ["a", "bytes:\\xc3", "bytes:\\xa9", "b"]
    assert found.top_logprobs is None


def test_what_a_token_shows_counts_for_the_offsets_and_the_first_of_a_prompt_has_no_probability() -> (
    None
):
    best = (TokenLogprob("b", b"b", -0.5), TokenLogprob("b", b"b", -0.7))
    tokens = (
        TokenLogprob("<s>", b"<s>", math.nan, (), b""),
        TokenLogprob(" a", b" a", -1.0, best, b"a"),
        TokenLogprob("b", b"b", -2.0, best),
        TokenLogprob("</s>", b"</s>", -3.0, best, b""),
    )
    found = Offsets().logprobs(tokens, 2)
    assert found.text_offset == [0, 0, 1, 2]
    assert found.tokens == ["<s>", " a", "b", "</s>"]
    assert found.token_logprobs == [None, -1.0, -2.0, -3.0]
    assert found.top_logprobs == [None, *[{"b": -0.5}] * 3]


def test_an_answer_of_no_tokens_is_for_echo_only() -> None:
    assert completion(max_tokens=0, echo=True).sampling.max_tokens == 0
    assert completion(max_tokens=0, echo=True, logprobs=1).sampling.logprobs == 1
    for fields in ({}, {"echo": False}, {"logprobs": 1}):
        assert fault(completion, max_tokens=0, **fields).param == "max_tokens"
    assert fault(completion, max_tokens=-1, echo=True).param == "max_tokens"
    assert fault(completion, logprobs=21, echo=True).param == "logprobs"
    assert fault(completion, logprobs=-1, echo=True).param == "logprobs"
    assert fault(chat, max_tokens=0).param == "max_tokens"
    assert completion().sampling.max_tokens == 16


def test_every_field_of_the_tables_is_in_its_types() -> None:
    for field in (*HARMLESS, *REFUSED):
        for api in field.apis:
            names = {f.name for f in msgspec.structs.fields(TYPES[api])}
            assert field.name in names, f"{field.name} of {api}"
    names = {f.name for f in msgspec.structs.fields(ChatMessage)}
    assert {f.name for f in REFUSED_IN_MESSAGES} <= names


def test_the_documentation_shows_exactly_the_fields_there_are() -> None:
    text = API.read_text(encoding="utf-8")
    for heading, fields in (
        ("Accepted and left alone", HARMLESS),
        ("Refused by name", REFUSED),
        ("Refused in messages", REFUSED_IN_MESSAGES),
        ("Responses: left alone", responses.HARMLESS),
        ("Responses: refused by name", responses.REFUSED),
        ("Responses: refused in items", responses.REFUSED_IN_ITEMS),
        ("Responses: refused in tools", responses.REFUSED_IN_TOOLS),
        ("Messages: left alone", messages.HARMLESS),
        ("Messages: refused by name", messages.REFUSED),
        ("Messages: refused in blocks", messages.REFUSED_IN_BLOCKS),
        ("Messages: refused in tools", messages.REFUSED_IN_TOOLS),
    ):
        rows = [cells[0].strip(" `") for cells in _rows(text, heading)]
        assert rows == [field.name for field in fields], heading
        for cells, field in zip(_rows(text, heading), fields, strict=True):
            assert cells[-1].strip() == field.why
            assert not field.neutral or cells[-2].strip() == field.neutral
    for heading, left, kinds in (
        ("Honoured", (*HARMLESS, *REFUSED), TYPES.values()),
        (
            "Responses: honoured",
            (*responses.HARMLESS, *responses.REFUSED),
            (ResponsesBody,),
        ),
        ("Messages: honoured", (*messages.HARMLESS, *messages.REFUSED), (MessagesBody,)),
    ):
        honoured = {cells[0].strip(" `") for cells in _rows(text, heading)}
        every = _names(*kinds)
        assert honoured == every - {field.name for field in left}, heading


def test_every_field_of_the_other_dialects_tables_is_in_its_types() -> None:
    for fields, names in (
        ((*responses.HARMLESS, *responses.REFUSED), _names(ResponsesBody)),
        (responses.REFUSED_IN_ITEMS, _names(InputItem)),
        (responses.REFUSED_IN_TOOLS, _names(FunctionTool)),
        ((*messages.HARMLESS, *messages.REFUSED), _names(MessagesBody)),
        (messages.REFUSED_IN_BLOCKS, _names(TextBlock, ImageBlock, ToolUseBlock)),
        (messages.REFUSED_IN_TOOLS, _names(CustomTool)),
    ):
        assert {field.name for field in fields} <= names


def _names(*kinds: type[msgspec.Struct]) -> set[str]:
    return {field.name for kind in kinds for field in msgspec.structs.fields(kind)}


def _rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = re.split(rf"^#+ {heading}$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [line.strip("|").split("|") for line in lines]
