"""Every text of a request is found, whatever field it stands in: against every string of its values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from daulat.flow.texts import joined, nameless, opaque, rewritten, texts
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Image,
    Message,
    ModerationRequest,
    Request,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)

NOT_SENT = {"user", "kept", "safety_identifier"}
NOT_WORDS = {"model", "role", "kind", "param", "choice", "named", "detail"}
"""Words of ours, of a list, or said again elsewhere (`named` is one of the tools)."""

CHAT = ChatRequest(
    "m",
    (
        Message("system", "w-system", name="w-name"),
        Message("user", "w-part", parts=("w-part", Image("https://example.com/?q=w%2Durl"))),
        Message(
            "assistant", "w-said", tool_calls=(ToolCall("w-id", "w-tool", '{"w-key": "w-value"}'),)
        ),
        Message("tool", "w-result", tool_call_id="w-id"),
    ),
    sampling=Sampling(stop=("w-stop",)),
    user="w-user",
    tools=Toolbox((Tool("w-tool", "w-description", {"w-field": {"enum": ["w-enum", 123456]}}),)),
    structure=Structure("json", {"w-answer": "w-schema"}, "response_format", name="w-form"),
    hints={"metadata": {"w-label": "w-note"}, "safety_identifier": "w-end-user"},
    begun="w-begun",
    kept={"api": "w-kept"},
)
REQUESTS: list[Request] = [
    CHAT,
    dataclasses.replace(CHAT, structure=Structure("regex", "w-regex", "p")),
    dataclasses.replace(CHAT, structure=Structure("choice", ("w-one", "w-two"), "p")),
    CompletionRequest("m", ("w-prompt",), Sampling(stop=("w-stop",)), user="w-user"),
    EmbeddingRequest("m", ("w-input",), user="w-user"),
    ModerationRequest("m", ("w-input",), user="w-user"),
]


def words(value: Any, field: str = "") -> Iterator[str]:
    """Every string anywhere in a value: a plain walk that knows no request."""
    if field in NOT_SENT | NOT_WORDS:
        return
    if dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from words(getattr(value, one.name), one.name)
    elif isinstance(value, dict):
        for name, below in value.items():
            if name in NOT_SENT:
                continue
            yield name
            yield from words(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from words(below, field)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("request_", REQUESTS)
def test_every_word_is_found(request_: Request) -> None:
    found = "\n".join(texts(request_))
    for word in words(request_):
        for part in (word.replace("%2D", "-"),):
            assert part in found, part
    assert "w-user" not in found
    assert "w-end-user" not in found
    assert "w-kept" not in found


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_changes_nothing_changes_nothing(request_: Request) -> None:
    again = rewritten(request_, lambda text, json=False: text)
    assert again == (
        request_
        if not isinstance(request_, ChatRequest)
        else dataclasses.replace(request_, hints=nameless(request_).hints)
    )


def test_names_that_others_refer_to_stay() -> None:
    def shout(text: str, *, json: bool = False) -> str:
        return text.replace("w-", "W-") if json else text.upper()

    changed = rewritten(CHAT, shout)
    assert changed.messages[2].tool_calls[0].name == "w-tool"
    assert changed.messages[3].tool_call_id == "w-id"
    assert changed.messages[1].parts[1] == CHAT.messages[1].parts[1]
    assert changed.messages[1].content == "W-PART"
    assert json.loads(changed.messages[2].tool_calls[0].arguments) == {"W-key": "W-value"}
    assert changed.tools
    assert changed.tools.tools[0].parameters == {"W-field": {"enum": ["W-enum", 123456]}}


def test_end_users_have_no_names_elsewhere() -> None:
    for request in REQUESTS:
        bare = nameless(request)
        assert bare.user is None
        assert nameless(bare) is bare
    assert nameless(CHAT).hints == {"metadata": {"w-label": "w-note"}}


def test_what_is_read_as_one_text() -> None:
    def turns(*told: tuple[Any, str]) -> ChatRequest:
        return ChatRequest("m", tuple(Message(role, content) for role, content in told))

    assert joined(turns(("user", "a"), ("assistant", "b"), ("user", "c"))) == []
    assert joined(turns(("user", "0812-"), ("user", "3456"), ("assistant", "b"))) == ["0812-3456"]
    assert joined(turns(("system", "a"), ("user", "x"), ("developer", "b"))) == ["ab"]
    assert joined(turns(("tool", "12"), ("tool", "34"))) == []
    picture = Message("user", "0812-34", parts=("0812-", Image("https://example.com/a"), "34"))
    assert joined(ChatRequest("m", (picture,))) == ["0812-34"]
    assert opaque(ChatRequest("m", (picture,)))
    assert opaque(EmbeddingRequest("m", ((1, 2),)))
    assert not opaque(CompletionRequest("m", ("a",)))
