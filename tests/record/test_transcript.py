"""What the record keeps of tools, forms and calls: among the contents, with keys masked."""

from __future__ import annotations

import json

from daulat.record.transcript import Transcript, opened
from daulat.values.answer import CallPiece, Done, Finish, Piece, Timings, Usage
from daulat.values.plan import THIS_MACHINE, Caller, Plan, Step
from daulat.values.request import ChatRequest, Message, Structure, Tool, Toolbox, ToolCall

KEY = "daulat-" + "A1b2" * 11
PARAMETERS = {"type": "object", "description": f"not {KEY}"}
REQUEST = ChatRequest(
    "m",
    (
        Message("user", "x"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "f", json.dumps({"k": KEY})),)),
        Message("tool", "y", tool_call_id="c1"),
    ),
    tools=Toolbox((Tool("f", "does", PARAMETERS),), "required", parallel=False),
    structure=Structure("json", {"type": "object"}, "response_format"),
)
PLAN = Plan((Step("native", THIS_MACHINE, "open", "m", "sha256:0"),), "the only one")


def test_a_request_is_kept_with_its_tools_and_form() -> None:
    body, contents = opened(REQUEST, Caller("k", "name"), PLAN, "i")
    kept = contents["request"]
    assert kept["tools"]["choice"] == "required"
    assert kept["tools"]["parallel"] is False
    assert kept["tools"]["tools"][0]["name"] == "f"
    assert kept["structure"]["source"] == {"type": "object"}
    assert kept["messages"][1]["tool_calls"][0]["name"] == "f"
    assert kept["messages"][2]["tool_call_id"] == "c1"
    assert "tool_calls" not in kept["messages"][0]
    assert KEY not in json.dumps(contents)
    assert "tools" not in body


def test_an_answer_is_kept_with_its_calls() -> None:
    transcript = Transcript(REQUEST)
    for event in (
        Piece(0, "Look: "),
        CallPiece(0, 0, "c9", "f"),
        CallPiece(0, 0, arguments='{"a"'),
        CallPiece(0, 0, arguments=": 1}"),
        Finish(0, "tool_calls"),
        Done(Usage(1, 2), Timings(0, 0, 0)),
    ):
        transcript.add(event)
    body, contents = transcript.closed("ok", None)
    assert body["finish_reasons"] == ["tool_calls"]
    answer = contents["answer"]
    assert answer["choices"] == ["Look: "]
    assert answer["tool_calls"] == [[{"id": "c9", "name": "f", "arguments": '{"a": 1}'}]]
