"""Tool syntaxes: golden prompts and answers of each family, and reading what was written.

The templates are short ones of our own, with the constructs of the families that they are named after.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.endpoints.calls import CallReader
from daulat.models.templates import ChatTemplates
from daulat.models.tools import GENERIC, SYNTAXES, ToolSyntax, conversation, syntax_of, written
from daulat.values.answer import CallPiece, CallPieces, Piece
from daulat.values.request import Message, Tool, ToolCall

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (Tool("weather", "The weather of a city.", CITY), Tool("now"))
CALLS = (ToolCall("call_1", "weather", '{"city":"Paris"}'), ToolCall("abc456789", "now", "{}"))
TALK = (
    Message("user", "Weather?"),
    Message("assistant", "", tool_calls=CALLS[:1]),
    Message("tool", "18 °C", tool_call_id="call_1"),
)
BY_NAME = {syntax.name: syntax for syntax in (*SYNTAXES, GENERIC)}

TEMPLATES = {
    "hermes": """{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{% endif %}
{%- for m in messages %}<{{ m.role }}>
{%- if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>
{{ {"name": c.function.name, "arguments": c.function.arguments} | tojson }}
</tool_call>{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}""",
    "granite": """{% if tools %}[{{ tools | tojson }}] respond only with <|tool_call|>{% endif %}
{%- for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}""",
    "mistral": """{% for m in messages %}{% if m.tool_calls is defined %}[TOOL_CALLS][
{%- for c in m.tool_calls %}{% if c.id|length != 9 %}{{ raise_exception("ids have 9") }}{% endif %}
{{- c.function | tojson }}{% endfor %}]{% elif m.role == "tool" %}[R]{{ m.content }}|{{ m.tool_call_id }}
{%- else %}{% if tools and loop.first %}[T]{{ tools | tojson }}[/T]{% endif %}[INST]{{ m.content }}{% endif %}
{%- endfor %}""",
    "llama": """{% if tools is not none %}<|python_tag|> {{ tools|length }} {"name":, "parameters":…}{% endif %}
{%- for m in messages %}<{{ m.role }}>{% if 'tool_calls' in m %}
{%- if m.tool_calls|length != 1 %}{{ raise_exception("one call") }}{% endif %}
{%- set c = m.tool_calls[0].function %}{"name": "{{ c.name }}", "parameters": {{ c.arguments | tojson }}}
{%- else %}{{ m.content }}{% endif %}{% endfor %}""",
    "generic": "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
}
GOLDEN = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "granite": '<|tool_call|>[{"name": "weather", "arguments": {"city": "Paris"}}]',
    "mistral": '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Paris"}}]',
    "llama": '{"name": "weather", "parameters": {"city": "Paris"}}',
    "generic": '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>',
}
SEVERAL = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    "granite": '<|tool_call|>[{"name": "weather", "arguments": {"city": "Paris"}}, '
    '{"name": "now", "arguments": {}}]',
    "mistral": '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Paris"}}, '
    '{"name": "now", "arguments": {}}]',
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_family_is_known_by_its_template(name: str) -> None:
    assert syntax_of(TEMPLATES[name]).name == name


def test_a_template_that_only_mentions_a_mark_is_generic() -> None:
    assert syntax_of("{{ messages[0].content }}<tool_call>") is GENERIC


@pytest.mark.parametrize("name", TEMPLATES)
def test_calls_are_written_as_the_family_writes_them(name: str) -> None:
    assert written(CALLS[:1], BY_NAME[name]) == GOLDEN[name]
    if name in SEVERAL:
        assert written(CALLS, BY_NAME[name]) == SEVERAL[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_tools_calls_and_results_reach_the_prompt(name: str) -> None:
    with ChatTemplates() as templates:
        text = templates.render(TEMPLATES[name], TALK, {}, TOOLS)
    assert GOLDEN[name].removeprefix("[TOOL_CALLS]") in text
    assert "18 °C" in text
    if name != "llama":
        assert '"The weather of a city."' in text
    assert text.index("Weather?") < text.index("18 °C")


def test_the_results_role_is_the_familys() -> None:
    messages, tools = conversation(TEMPLATES["granite"], TALK, TOOLS)
    assert [m["role"] for m in messages] == ["user", "assistant", "tool_response"]
    assert tools is not None
    assert tools[0]["function"]["parameters"] == CITY


def test_without_tools_in_the_template_the_system_message_has_them() -> None:
    system = Message("system", "Be brief.")
    two = (*TALK[:1], Message("assistant", "Yes.", tool_calls=CALLS), TALK[2],
           Message("tool", "noon", tool_call_id="abc456789"))  # fmt: skip
    messages, tools = conversation(TEMPLATES["generic"], (system, *two), TOOLS)
    assert tools is None
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"].startswith("Be brief.\n\nYou can call these tools:\n{")
    assert messages[2]["content"] == "Yes.\n" + SEVERAL["hermes"]
    assert messages[3]["content"] == (
        "<tool_response>\n18 °C\n</tool_response>\n<tool_response>\nnoon\n</tool_response>"
    )
    alone, _ = conversation(TEMPLATES["generic"], TALK[:1], TOOLS)
    assert [m["role"] for m in alone] == ["system", "user"]
    assert conversation(TEMPLATES["generic"], TALK[:1], ())[0] == [
        {"role": "user", "content": "Weather?"}
    ]


def test_ids_have_the_length_that_all_templates_take() -> None:
    messages, _ = conversation(TEMPLATES["mistral"], TALK, TOOLS)
    called = messages[1]["tool_calls"][0]["id"]
    assert len(called) == 9
    assert messages[2]["tool_call_id"] == called


# --- reading --------------------------------------------------------------------------------------


def read(pieces: list[str], syntax: ToolSyntax, *, anywhere: bool) -> tuple[str, list[Any], int]:
    reader = CallReader(0, syntax, anywhere=anywhere)
    said = [event for piece in pieces for event in reader.read(piece)] + reader.finish()
    calls = CallPieces()
    for event in said:
        if isinstance(event, CallPiece):
            calls.add(event)
    text = "".join(event.text for event in said if isinstance(event, Piece))
    return text, [(c.name, c.arguments) for c in calls.whole()], reader.calls


ARGUMENTS = st.dictionaries(
    st.text(max_size=6),
    st.integers() | st.text(max_size=12) | st.sampled_from(['"}', "{", "\\", "</tool_call>", "]"])
    | st.lists(st.dictionaries(st.text(max_size=3), st.none(), max_size=2), max_size=2),
    max_size=3,
)  # fmt: skip


@given(
    st.sampled_from(list(BY_NAME.values())),
    st.sampled_from(["", "I will look.\n", "a < b <tool", "日本 ["]),
    st.lists(
        st.tuples(st.sampled_from(["weather", "now", "a-b_1"]), ARGUMENTS), min_size=1, max_size=3
    ),
    st.lists(st.integers(0, 400), max_size=30),
)
def test_what_was_written_is_read_however_it_is_cut(
    syntax: ToolSyntax, before: str, calls: list[tuple[str, Any]], cuts: list[int]
) -> None:
    made = [
        ToolCall("x", name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls
    ]
    made = made if syntax.several else made[:1]
    before = before if syntax.anywhere else ""
    text = before + written(made, syntax)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert read(pieces, syntax, anywhere=syntax.anywhere) == (
        before,
        [(call.name, call.arguments) for call in made],
        len(made),
    )


@pytest.mark.parametrize("name", ["granite", "mistral"])
def test_a_space_behind_the_trigger_is_passed_over(name: str) -> None:
    syntax = BY_NAME[name]
    text = syntax.trigger + " " + GOLDEN[name][len(syntax.trigger) :]
    assert read(list(text), syntax, anywhere=True)[1] == [("weather", '{"city": "Paris"}')]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_call_that_is_cut_keeps_what_came(name: str) -> None:
    whole = GOLDEN[name]
    arguments = whole.index('{"city"')
    for end in range(len(whole)):
        text, calls, count = read([whole[:end]], BY_NAME[name], anywhere=BY_NAME[name].anywhere)
        if end < arguments:
            assert calls == []
        else:
            assert calls[0][0] == "weather"
            assert '{"city": "Paris"}'.startswith(calls[0][1])
        # A beginning of the mark that never became one is text.
        assert text in ("", whole[:end])
        assert count == len(calls)


def test_structured_text_that_holds_a_mark_is_text() -> None:
    text = '{"note": "<tool_call>\\n"}'
    assert read(list(text), GENERIC, anywhere=False) == (text, [], 0)
