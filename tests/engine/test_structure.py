"""Structured answers: what is written parses and validates, and masks allow exactly what may come."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from daulat.endpoints.calls import CallReader
from daulat.engine.sampler import Sampler
from daulat.engine.schemas import checked
from daulat.errors import RequestError
from daulat.models.catalogue import ModelEntry
from daulat.models.tokenizer import load_tokenizer
from daulat.models.tools import GENERIC, SYNTAXES, ToolSyntax
from daulat.values.answer import CallPiece, CallPieces, Piece
from daulat.values.request import Sampling, Structure, Tool, Toolbox, ToolCall
from tests.engine.structured import Writer

BARE = next(syntax for syntax in SYNTAXES if not syntax.anywhere)
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def writer(starter_entry: ModelEntry) -> Writer:
    return Writer(load_tokenizer(starter_entry.open()))


def json_of(schema: Any) -> Structure:
    return Structure("json", schema, "schema")


# --- generated schemas ----------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "name", "über", "x y", 'q"uote'])
SIZES = st.integers(0, 4)


def _bounded(kind: str, low: str, high: str) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda least, more: {"type": kind, low: least, high: least + more}, SIZES, SIZES
    )


LEAVES = st.one_of(
    st.sampled_from([{"type": t} for t in ("string", "integer", "number", "boolean", "null")]),
    st.just({"type": ["string", "null"], "description": "either"}),
    st.builds(lambda v: {"enum": v}, st.lists(st.none() | st.integers() | st.text(), min_size=1)),
    st.builds(lambda v: {"const": v}, st.text() | st.booleans() | st.just({"k": [1, None]})),
    _bounded("string", "minLength", "maxLength"),
    st.builds(
        lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b},
        st.integers(-1000, 1000),
        st.integers(0, 1000),
    ),
    st.builds(
        lambda a, b: {"type": "number", "exclusiveMinimum": a, "maximum": a + b + 1},
        st.integers(-50, 50),
        st.integers(0, 50),
    ),
    st.builds(lambda m: {"type": "integer", "multipleOf": m}, st.integers(1, 40)),
    st.builds(
        lambda p: {"type": "string", "pattern": p},
        st.sampled_from(["^[a-z]{2,5}$", "[0-9]", "^(ab|cd)+$", r"^\d{3}-\d{2}$", "^x?$"]),
    ),
    st.builds(lambda f: {"type": "string", "format": f}, st.sampled_from(["date", "uuid", "ipv4"])),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.builds(
        lambda i, least, more: {
            "type": "array",
            "items": i,
            "minItems": least,
            "maxItems": least + more,
        },
        inner,
        SIZES,
        SIZES,
    )
    pairs = st.builds(
        lambda a: {"type": "array", "prefixItems": a, "items": False, "minItems": len(a)},
        st.lists(inner, min_size=1, max_size=3),
    )
    return (
        lists
        | pairs
        | _objects(inner)
        | st.builds(lambda a: {"anyOf": a}, st.lists(inner, min_size=1, max_size=3))
    )


@st.composite
def _objects(draw: Any, inner: st.SearchStrategy[Any]) -> Any:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    schema["required"] = (
        draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if (properties) else []
    )
    extra = draw(st.sampled_from([None, True, False, {"type": "integer"}]))
    return schema if extra is None else {**schema, "additionalProperties": extra}


SCHEMAS = st.recursive(LEAVES, _containers, max_leaves=8)


def _finite(text: str) -> float:
    """JSON has numbers beyond a float's range; the validator would take their infinity for null."""
    return max(-1e300, min(float(text), 1e300))


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW, derandomize=True)
@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_every_finished_answer_validates(writer: Writer, schema: Any, seed: int) -> None:
    try:
        grammar = writer.grammar(json_of(schema))
        text, end = writer.write(grammar, seed)
    except RequestError as error:
        # Refused, and only ever for a reason that is the schema's.
        assert "there is no text" in error.message or "nsatisfiable" in error.message  # noqa: PT017
        assume(False)
        return
    if end.reason == "stop":
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        validator.validate(json.loads(text, parse_float=_finite))
    else:
        assert end.completion_tokens == 1500


def test_most_answers_are_finished(writer: Writer) -> None:
    schema = {
        "type": "object",
        "properties": {
            "s": {"type": "string"},
            "n": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["s", "n"],
    }
    grammar = writer.grammar(json_of(schema))
    ends = [writer.write(grammar, seed)[1].reason for seed in range(30)]
    assert ends.count("stop") == 30


RECURSIVE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    "schema",
    [
        RECURSIVE,
        {"type": "object"},
        {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "null"}}}]},
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "object", "patternProperties": {"^k": {"type": "null"}}, "maxProperties": 2,
         "additionalProperties": False},
        {"anyOf": [{"type": "object", "properties": {"t": {"const": t}}, "required": ["t"]}
                   for t in ("a", "b")]},
        {},
    ],
    ids=lambda schema: ",".join(schema) or "anything",
)  # fmt: skip
def test_what_hypothesis_does_not_make(writer: Writer, schema: Any) -> None:
    grammar = writer.grammar(json_of(schema))
    validator = jsonschema_rs.validator_for(schema)
    texts = [writer.write(grammar, seed) for seed in range(12)]
    finished = [json.loads(text) for text, end in texts if end.reason == "stop"]
    assert finished
    for value in finished:
        validator.validate(value)


def test_listed_properties_close_an_object_only_where_that_is_safe() -> None:
    listed = {"type": "object", "properties": {"a": {}}, "title": "T", "x-order": 1}
    assert checked(listed, "s") == {
        "type": "object",
        "properties": {"a": {}},
        "additionalProperties": False,
    }
    joined = {"allOf": [listed, {"properties": {"b": {}}}]}
    assert "additionalProperties" not in json.dumps(checked(joined, "s"))
    beyond = {"properties": {"a": {}}, "required": ["b"]}
    assert checked(beyond, "s") == beyond


# --- expressions, grammars, choices ---------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{3}-\d{4}",
        "(yes|no)( please)?",
        "[A-Z][a-z]{1,8}",
        r"a/b\n[x-z]",
        "é+ñ?",
        " x",
        "[a-z_]{1,9}",
    ],
)
def test_regular_expressions_match_whole(writer: Writer, pattern: str) -> None:
    grammar = writer.grammar(Structure("regex", pattern, "regex"))
    for seed in range(8):
        text, end = writer.write(grammar, seed, limit=60)
        if end.reason == "stop":
            assert re.fullmatch(pattern, text)


def _sums(text: str) -> bool:
    """A recursive-descent parser of what the grammar below describes."""

    def term(at: int) -> int:
        if text[at : at + 1] == "(":
            at = total(at + 1)
            return at + 1 if at >= 0 and text[at : at + 1] == ")" else -1
        found = re.compile(r"[0-9]{1,3}").match(text, at)
        return found.end() if found else -1

    def total(at: int) -> int:
        at = term(at)
        while at >= 0 and text[at : at + 1] in ("+", "-"):
            at = term(at + 1)
        return at

    return total(0) == len(text)


SUMS = """
start: total
total: term (("+" | "-") term)*
term: NUMBER | "(" total ")"   // nested
NUMBER: /[0-9]{1,3}/
"""


def test_grammars_give_what_their_parser_takes(writer: Writer) -> None:
    grammar = writer.grammar(Structure("grammar", SUMS, "grammar"))
    texts = [writer.write(grammar, seed, limit=80) for seed in range(30)]
    finished = [text for text, end in texts if end.reason == "stop"]
    assert len(finished) > 10
    assert all(map(_sums, finished))
    assert not _sums("1+")


def test_choices(writer: Writer) -> None:
    choices = ("yes", 'say "no"', "a\\b", "日本", "yes, but")
    grammar = writer.grammar(Structure("choice", choices, "choice"))
    answers = {writer.write(grammar, seed)[0] for seed in range(40)}
    assert answers <= set(choices)
    assert len(answers) > 2


# --- the mask -------------------------------------------------------------------------------------


def _slow_mask(writer: Writer, sofar: bytes, pattern: re.Pattern[bytes]) -> set[int]:
    """Every token whose bytes keep to `pattern`, which matches every beginning of an answer."""
    tokenizer = writer.tokenizer
    return {
        token
        for token in range(writer.size)
        if token not in tokenizer.special_ids
        and tokenizer.token_bytes(token)
        and pattern.fullmatch(sofar + tokenizer.token_bytes(token))
    }


def test_a_mask_allows_exactly_what_may_come(writer: Writer) -> None:
    grammar = writer.grammar(Structure("regex", "[ab]{2,4}(c|-[0-9]+)", "regex"))
    beginnings = re.compile(rb"[ab]{0,4}|[ab]{2,4}(c|-[0-9]*)")
    whole = re.compile(rb"[ab]{2,4}(c|-[0-9]+)")
    random = np.random.default_rng(3)
    for _ in range(6):
        guide, sofar = writer.grammars.guide("starter", writer.tokenizer, writer.size, grammar), b""
        for _ in range(8):
            allowed = set(map(int, np.flatnonzero(guide.allowed())))
            expected = _slow_mask(writer, sofar, beginnings)
            if whole.fullmatch(sofar):
                expected |= writer.tokenizer.eos_ids
            assert allowed == expected
            assert {token for token in range(writer.size) if guide.allows(token)} == expected
            token = int(random.choice(sorted(allowed)))
            if token in writer.tokenizer.eos_ids:
                break
            guide.advance(token)
            sofar += writer.tokenizer.token_bytes(token)
            if guide.finished:
                break


@pytest.mark.parametrize(
    ("structure", "tools"),
    [
        (Structure("regex", r"[A-Z][a-z]+( [a-z]+,?){3,40}\. \d{4}", "regex"), None),
        (Structure("regex", r"(\w+ ){2,9}\w+", "regex"), None),
        (json_of({"type": "object", "properties": {"a": {"type": "string"}}}), None),
        (None, (Toolbox((Tool("weather", None, None),)), GENERIC)),
    ],
)
@pytest.mark.parametrize("bias", [None, {504: 3.0, 3: -100.0}])
def test_the_likeliest_token_is_the_same_with_and_without_its_mask(
    writer: Writer,
    structure: Structure | None,
    tools: tuple[Toolbox, ToolSyntax] | None,
    bias: dict[int, float] | None,
) -> None:
    grammar = writer.grammar(structure, tools)
    guide = writer.grammars.guide("starter", writer.tokenizer, writer.size, grammar)
    sampler = Sampler(Sampling(temperature=0, logit_bias=bias or {}), 1, [0])
    random = np.random.default_rng(5)
    asked = 0
    for _ in range(60):
        allowed = guide.allowed()
        # Whole numbers have equals; what is allowed is helped, so that both ways are gone.
        logits = random.integers(0, 9, writer.size).astype(np.float32)
        logits[random.choice(np.flatnonzero(allowed), 3)] += random.integers(0, 6)
        biased = logits.copy()
        if bias:
            biased[504] += 3
            biased[3] = -np.inf
        asked += bool(allowed[biased.argmax()])
        token = sampler.choose(logits, guide).token
        assert token == np.where(allowed, biased, -np.inf).argmax()
        if token in writer.tokenizer.eos_ids or guide.finished:
            guide = writer.grammars.guide("starter", writer.tokenizer, writer.size, grammar)
        else:
            guide.advance(token)
    assert 5 < asked < 60


def test_a_structure_holds_whatever_bias_and_penalties_do(writer: Writer) -> None:
    grammar = writer.grammar(Structure("regex", "[ab]{40}", "regex"))
    a, b = (
        writer.tokenizer.encode("a", special=False)[0],
        writer.tokenizer.encode("z", special=False)[0],
    )
    hostile = Sampling(
        temperature=2.0,
        logit_bias={b: 99.0, a: -99.0},
        repetition_penalty=10.0,
        presence_penalty=2.0,
        frequency_penalty=2.0,
        top_k=1,
        min_p=0.5,
        top_p=0.1,
    )
    text, end = writer.write(grammar, 1, hostile)
    assert re.fullmatch("[ab]{40}", text)
    assert end.reason == "stop"


def test_a_bias_that_bans_all_that_may_come_is_refused(writer: Writer) -> None:
    grammar = writer.grammar(Structure("choice", ("é",), "choice"))
    for bias in ({504: 100.0}, dict.fromkeys(range(writer.size), -100.0)):
        with pytest.raises(RequestError) as caught:
            writer.write(grammar, 1, Sampling(logit_bias=bias))
        assert caught.value.param == "logit_bias"


class _Only:
    """Rules that allow these tokens of three."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = tokens

    def allows(self, token: int) -> bool:
        return token in self._tokens

    def allowed(self) -> np.ndarray:
        return np.isin(np.arange(3), self._tokens)


@pytest.mark.parametrize("temperature", [0, 1e-9])
def test_masked_choices_keep_the_raw_log_probabilities(temperature: float) -> None:
    logits = np.array([5.0, 1.0, 0.0], np.float32)
    sampler = Sampler(Sampling(temperature=temperature, logprobs=2), 1, [0])
    choice = sampler.choose(logits, _Only(1, 2))
    assert choice.token == 1
    assert choice.top[0][0] == 0
    assert choice.logprob == pytest.approx(1 - np.log(np.exp(logits.astype(float)).sum()))


def test_the_same_seed_gives_the_same_answer(writer: Writer) -> None:
    grammar = writer.grammar(json_of({"type": "array", "items": {"type": "string"}}))
    # Other answers by the same grammar in between change nothing.
    first = writer.write(grammar, 11)
    for seed in range(5):
        writer.write(grammar, seed)
    again = writer.write(grammar, 11)
    assert (first[0], first[1].completion_tokens) == (again[0], again[1].completion_tokens)


def test_an_answer_that_is_cut_says_so(writer: Writer) -> None:
    grammar = writer.grammar(json_of({"type": "string", "minLength": 500}))
    text, end = writer.write(grammar, 1, limit=5)
    assert (end.reason, end.completion_tokens) == ("length", 5)
    assert text.startswith('"')


def test_an_answer_that_is_whole_with_its_last_token_is_not_cut(writer: Writer) -> None:
    grammar = writer.grammar(Structure("choice", ("yes",), "choice"))
    _, end = writer.write(grammar, 1)
    assert writer.write(grammar, 1, limit=end.completion_tokens)[1].reason == "stop"


# --- what is refused ------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        ({"uniqueItems": True}, "s.uniqueItems"),
        ({"properties": {"a": {"not": {}}}}, "s.properties.a.not"),
        ({"if": {}, "then": {}}, "s.if"),
        ({"contains": {}}, "s.contains"),
        ({"propertyNames": {}}, "s.propertyNames"),
        ({"dependentRequired": {}}, "s.dependentRequired"),
        ({"unevaluatedProperties": False}, "s.unevaluatedProperties"),
        ({"type": "string", "nullable": True}, "s.nullable"),
        ({"x-guidance": {"lenient": True}, "foo": 1}, "s.foo"),
        ({"items": [{}]}, "s.items"),
        ({"type": "text"}, "s.type"),
        ({"enum": []}, "s.enum"),
        ({"enum": list(range(20_000))}, "s.enum"),
        ({"minLength": -1}, "s.minLength"),
        ({"maxItems": 10**9}, "s.maxItems"),
        ({"minLength": True}, "s.minLength"),
        ({"minimum": "3"}, "s.minimum"),
        ({"minimum": 10**30}, "s.minimum"),
        ({"multipleOf": 999_983}, "s.multipleOf"),
        ({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}, "s.allOf[1].multipleOf"),
        ({"multipleOf": 0}, "s.multipleOf"),
        ({"pattern": "a{100000}"}, "s.pattern"),
        ({"pattern": "x" * 3000}, "s.pattern"),
        ({"format": "binary"}, "s.format"),
        ({"$ref": "https://example.org/x"}, "s.$ref"),
        ({"required": "a"}, "s.required"),
        ({"anyOf": []}, "s.anyOf"),
        ({"properties": []}, "s.properties"),
        ({"minProperties": 3}, "s.minProperties"),
        ({"properties": {"ab": {}}, "patternProperties": {"^a": {}}}, "s.patternProperties"),
        ({"prefixItems": [{}] * 6000}, None),
        (deep(100), None),
        ({"description": "x" * 300_000}, "s"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_schemas_that_cannot_be_held_to_are_refused_by_path(schema: Any, param: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        checked(schema, "s")
    assert len(caught.value.message) < 1000
    if param:
        assert caught.value.param == param


@pytest.mark.parametrize(
    "structure",
    [
        json_of({"type": "integer", "minimum": 5, "maximum": 3}),
        json_of({"$ref": "#"}),
        json_of({"$ref": "#/$defs/none"}),
        json_of({"type": "object", "properties": {"a": False}, "required": ["a"]}),
        json_of({"oneOf": [{"type": "number"}, {"type": "integer"}]}),
        json_of({"type": "string", "pattern": "(?=a)b"}),
        json_of({"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {}}} for j in range(6)]} for i in range(9)]}),
        *(
            Structure("regex", text, "regex")
            for text in ("(", "(?=x)", r"\bx\b", "a{100000}", "[^\\x00-\\x{10FFFF}]", "(a)\\1")
        ),
        *(
            Structure("grammar", text, "grammar")
            for text in (
                "start: x", 'expr: "1"', "start: a\na: b\nb: a", "start: %json {}", "start: <|im_end|>",
                'start: <[0-9]> "x"', 'start[temperature=0.9]: "x"', "start: @other", 'start: "a"~9999999',
                'start: "a"{1,' + "9" * 5000 + "}", "%llguidance {}\nstart: /x/", "(((", 'start: ("a"',
            )
        ),
    ],
    ids=lambda s: f"{s.kind} {str(s.source)[:40]}",
)  # fmt: skip
def test_what_is_impossible_is_refused_at_once(writer: Writer, structure: Structure) -> None:
    began = time.monotonic()
    with pytest.raises(RequestError) as caught:
        writer.grammars.guide("starter", writer.tokenizer, writer.size, writer.grammar(structure))
    assert (caught.value.param or "").startswith(structure.param)
    assert len(caught.value.message) < 400
    assert time.monotonic() - began < 5


def test_what_turns_out_to_be_endless_ends_its_own_answer_only(writer: Writer) -> None:
    grammar = writer.grammar(json_of({"type": "string", "pattern": "(.{0,300}x){0,300}"}))

    def write_many() -> None:
        for seed in range(50):
            writer.write(grammar, seed, limit=200)

    began = time.monotonic()
    with pytest.raises(RequestError, match="cannot be held to"):
        write_many()
    assert time.monotonic() - began < 20
    assert writer.write(writer.grammar(Structure("choice", ("yes",), "choice")), 1)[0] == "yes"


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(text=st.text(max_size=40) | st.text('start: "/[]()|*+?a\\{}1,~%<>\n', max_size=40))
def test_no_text_as_expression_or_grammar_raises_anything_else(writer: Writer, text: str) -> None:
    for kind in ("regex", "grammar"):
        try:
            writer.write(writer.grammar(Structure(kind, text, kind)), 1, limit=5)  # type: ignore[arg-type]
        except RequestError as error:
            assert (error.param or "").startswith(kind)  # noqa: PT017


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "items", "anyOf", "properties", "enum", "$ref"]), inner),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(
    schema=st.dictionaries(
        st.sampled_from(
            [
                "type",
                "items",
                "anyOf",
                "properties",
                "required",
                "const",
                "additionalProperties",
                "$ref",
                "pattern",
                "minLength",
            ]
        ),
        ANY_JSON,
    )
)
def test_no_value_as_schema_raises_anything_else(writer: Writer, schema: Any) -> None:  # fmt: skip
    try:
        writer.write(writer.grammar(json_of(schema)), 1, limit=5)
    except RequestError as error:
        assert (error.param or "").startswith("schema")  # noqa: PT017


def test_grammars_are_kept_within_bounds(writer: Writer) -> None:
    from daulat.engine import grammars

    made = [writer.grammar(Structure("regex", f"a{{{n}}}", "r")) for n in range(1, 400)]
    assert writer.grammar(Structure("regex", "a{399}", "r")) is made[-1]
    assert len(writer.grammars._grammars) == grammars.GRAMMARS_KEPT


# --- tool calls -----------------------------------------------------------------------------------

TOOLS = (
    Tool("weather", None, {"type": "object", "required": ["city"],
                           "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}),
    Tool("now", None, None),
)  # fmt: skip


def called(
    writer: Writer, box: Toolbox, syntax: ToolSyntax, seed: int
) -> tuple[str, list[ToolCall], Any]:
    grammar = writer.grammar(None, (box, syntax))
    text, end = writer.write(grammar, seed, limit=800)
    reader, calls = CallReader(0, syntax, anywhere=grammar.until is not None), CallPieces()
    said = [event for character in text for event in reader.read(character)] + reader.finish()
    for event in said:
        if isinstance(event, CallPiece):
            calls.add(event)
    return "".join(e.text for e in said if isinstance(e, Piece)), list(calls.whole()), end


@pytest.mark.parametrize("syntax", [*SYNTAXES, GENERIC], ids=lambda syntax: syntax.name)
def test_calls_parse_and_validate_in_every_syntax(writer: Writer, syntax: ToolSyntax) -> None:
    finished = 0
    for seed in range(12):
        box = Toolbox(
            TOOLS, "required", named="weather" if seed % 3 == 0 else None, parallel=seed % 2 == 0
        )
        text, calls, end = called(writer, box, syntax, seed)
        assert text == ""
        if end.reason == "stop":
            finished += 1
            assert calls
            assert len(calls) == 1 or (box.parallel and syntax.several and box.named is None)
            for call in calls:
                tool = next(tool for tool in TOOLS if tool.name == call.name)
                assert box.named in (None, call.name)
                schema = tool.parameters or {"type": "object", "maxProperties": 0}
                jsonschema_rs.validator_for(schema).validate(json.loads(call.arguments))
    assert finished > 6


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("spelled", [True, False])
def test_text_is_free_until_the_trigger(writer: Writer, special: bool, spelled: bool) -> None:
    # The starter has no tool token: one of its special ones stands for it.
    trigger = "<jupyter_code>" if special else "<call>"
    syntax = dataclasses.replace(GENERIC, trigger=trigger, opening=f"{trigger}[", closing="]")
    grammar = writer.grammar(None, (Toolbox(TOOLS), syntax))
    guide = writer.grammars.guide("starter", writer.tokenizer, writer.size, grammar)
    free = "Let me < see. \n\n日本 "
    pieces = [free, *(trigger if spelled else [trigger])]
    tokens = [t for piece in pieces for t in writer.tokenizer.encode(piece, special=False)]
    for token in tokens:
        assert guide.allowed()[token]
        assert not guide.finished
        guide.advance(token)
    # Behind it nothing but a call, not even an end.
    allowed = {writer.tokenizer.token_bytes(int(t)) for t in np.flatnonzero(guide.allowed())}
    assert allowed <= {b"[", b'[{"', b"[{"}
    assert bool(grammar.spelled) == special


def test_a_brace_at_the_beginning_is_a_call_where_calls_are_bare(writer: Writer) -> None:
    grammar = writer.grammar(None, (Toolbox(TOOLS), BARE))
    guide = writer.grammars.guide("starter", writer.tokenizer, writer.size, grammar)
    guide.advance(writer.tokenizer.encode("{", special=False)[0])
    assert {writer.tokenizer.token_bytes(int(t))[:1] for t in np.flatnonzero(guide.allowed())} == {
        b'"'
    }
    assert grammar.until is None


def test_tools_and_a_schema_together(writer: Writer) -> None:
    schema = json_of(
        {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    )
    grammar = writer.grammar(schema, (Toolbox(TOOLS), GENERIC))
    texts = [writer.write(grammar, seed, limit=400) for seed in range(20)]
    for text, end in texts:
        if end.reason == "stop" and not text.startswith(GENERIC.trigger):
            assert isinstance(json.loads(text)["a"], bool)
    with pytest.raises(RequestError):
        writer.grammar(schema, (Toolbox(TOOLS), BARE))


@pytest.mark.parametrize(
    "parameters", [{"type": "string"}, {"type": "object", "uniqueItems": True}]
)
def test_parameters_that_cannot_be_held_to_are_refused_by_path(
    writer: Writer, parameters: Any
) -> None:
    with pytest.raises(RequestError) as caught:
        writer.grammar(None, (Toolbox((TOOLS[0], Tool("f", None, parameters))), GENERIC))
    assert (caught.value.param or "").startswith("tools[1].function.parameters.")
