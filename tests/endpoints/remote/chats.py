"""Conversations for tests of dialects, and what a stream of events says in the end."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from daulat.endpoints.remote.dialect import ServerEvent
from daulat.values.answer import CallPiece, CallPieces, Done, Finish, Heard, Metered, Piece, Usage
from daulat.values.plan import Offer
from daulat.values.request import (
    ChatRequest,
    Image,
    Message,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)

OFFER = Offer("model", "vendor-model", max_output=4096)
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n rest").decode()

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)
names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
objects = st.dictionaries(names, values, max_size=3)
images = st.builds(
    Image,
    st.sampled_from(
        [
            f"data:image/png;base64,{PIXEL}",
            "https://example.org/a.png",
            "https://example.org/b.jpg?x=1",
        ]
    ),
)


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """A closed object, as all vendors take it."""
    found = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    types = [draw(st.sampled_from(["string", "integer", "boolean"])) for _ in found]
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in zip(found, types, strict=True)},
        "required": found,
        "additionalProperties": False,
    }


@st.composite
def toolboxes(draw: st.DrawFn, *, parallel: bool = True) -> Toolbox:
    """Tools and how they may be used."""
    found = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    tools = tuple(
        Tool(
            name,
            draw(st.none() | words),
            draw(st.none() | schemas()),
            draw(st.none() | st.booleans()),
        )
        for name in found
    )
    choice = draw(st.sampled_from(["auto", "none", "required"]))
    named = draw(st.none() | st.sampled_from(found)) if choice == "required" else None
    return Toolbox(tools, choice, named, True if parallel else draw(st.booleans()))


@st.composite
def _asked(draw: st.DrawFn) -> Message:
    if draw(st.booleans()):
        return Message("user", draw(words))
    parts = tuple(draw(st.lists(words | images, min_size=1, max_size=3)))
    if not any(isinstance(part, Image) for part in parts):
        parts = (*parts, draw(images))
    return Message("user", "".join(p for p in parts if isinstance(p, str)), parts=parts)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """System, then turns; every call has its result."""
    made = [Message(draw(st.sampled_from(["system", "developer"])), draw(words))] * draw(
        st.integers(0, 1)
    )
    for turn in range(draw(st.integers(1, 3))):
        made.append(draw(_asked()))
        calls = tuple(
            ToolCall(f"call_{turn}_{i}", draw(names), json.dumps(draw(objects)))
            for i in range(draw(st.integers(0, 3)))
        )
        text = draw(words) if not calls else draw(words | st.just(""))
        made.append(Message("assistant", text, tool_calls=calls))
        made += [Message("tool", draw(words), tool_call_id=call.id) for call in calls]
    made.append(Message("user", draw(words)))
    return tuple(made)


@st.composite
def requests(
    draw: st.DrawFn, sampling: st.SearchStrategy[Sampling], *, parallel: bool
) -> ChatRequest:
    """A chat; `parallel`: calls are never asked for one at a time."""
    schema = st.builds(Structure, st.just("json"), schemas(), st.just("response_format"), names)
    return ChatRequest(
        "model",
        draw(conversations()),
        draw(sampling),
        tools=draw(st.none() | toolboxes(parallel=parallel)),
        structure=draw(st.none() | schema),
        stream=draw(st.booleans()),
    )


# --- answers --------------------------------------------------------------------------------------


@dataclass
class Told:
    """What a stream of events said, choice by choice."""

    text: dict[int, str] = field(default_factory=dict)
    thought: dict[int, str] = field(default_factory=dict)
    refusal: dict[int, str] = field(default_factory=dict)
    calls: dict[int, list[tuple[str, str, Any]]] = field(default_factory=dict)
    finish: dict[int, str] = field(default_factory=dict)
    usage: Usage | None = None


def heard(events: Iterable[Heard]) -> Told:
    """Gather events, checking that they are in order and that `Done` is the one at the end."""
    made = Told()
    gathered: dict[int, CallPieces] = {}
    for event in events:
        assert made.usage is None, "something behind Done"
        match event:
            case Piece():
                assert event.choice not in made.finish
                kind = getattr(made, event.kind)
                kind[event.choice] = kind.get(event.choice, "") + event.text
            case CallPiece():
                assert event.choice not in made.finish
                gathered.setdefault(event.choice, CallPieces()).add(event)
            case Finish():
                assert event.choice not in made.finish
                made.finish[event.choice] = event.reason
            case Done():
                made.usage = event.usage
            case Metered():
                assert event.usage.prompt_tokens >= 0
    for choice, pieces in gathered.items():
        made.calls[choice] = [(c.id, c.name, json.loads(c.arguments)) for c in pieces.whole()]
    assert made.usage is not None, "no Done"
    return made


def streamed(reader: Any, datas: Iterable[Any], names_of: str = "") -> Told:
    """What a reader makes of these events; each is JSON, whose `names_of` is the event's name."""

    def events() -> Iterable[Heard]:
        for data in datas:
            name = data.get(names_of, "") if names_of else ""
            yield from reader.feed(ServerEvent(json.dumps(data), name))
        yield from reader.end()

    return heard(events())


@st.composite
def split(draw: st.DrawFn, text: str) -> list[str]:
    """A text in arbitrary stretches."""
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=5)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def replies(draw: st.DrawFn) -> tuple[str, list[tuple[str, str, dict[str, Any]]]]:
    """A text and calls, not both empty."""
    calls = [(f"call_{i}", draw(names), draw(objects)) for i in range(draw(st.integers(0, 3)))]
    return draw(words if not calls else words | st.just("")), calls
