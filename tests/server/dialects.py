"""Requests as values, made at random, and how a client of each dialect would write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from daulat.values.request import (
    ChatRequest,
    Image,
    Message,
    Part,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
URLS = st.just(PIXEL) | st.from_regex(r"https://[a-z]{1,9}\.example/[a-z0-9]{0,9}", fullmatch=True)
SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(NAMES, st.just({"type": "string"}))}
)
Body = dict[str, Any]


def images(detail: bool) -> st.SearchStrategy[Image]:
    how = st.sampled_from([None, "auto", "low", "high"]) if detail else st.none()
    return st.builds(Image, URLS, how)


@st.composite
def turns(draw: st.DrawFn, joint: str, *, detail: bool, seen_by_tools: bool) -> tuple[Message, ...]:
    """A conversation that a user ends; `joint` stands between the texts of one turn."""
    made = [Message("system", draw(TEXTS))] if draw(st.booleans()) else []
    for i in range(draw(st.integers(0, 3))):
        made.append(draw(_seen("user", joint, detail)))
        calls = tuple(
            ToolCall(f"call-{i}-{j}", draw(NAMES), draw(_arguments()))
            for j in range(draw(st.integers(0, 2)))
        )
        made.append(Message("assistant", draw(TEXTS), tool_calls=calls))
        for call in calls:
            result = draw(_seen("tool", joint, detail)) if seen_by_tools else None
            text = draw(TEXTS)
            made.append(
                Message("tool", result.content, tool_call_id=call.id, parts=result.parts)
                if result
                else Message("tool", text, tool_call_id=call.id)
            )
    return (*made, draw(_seen("user", joint, detail)))


@st.composite
def _seen(draw: st.DrawFn, role: Any, joint: str, detail: bool) -> Message:
    parts: list[Part] = draw(st.lists(TEXTS | images(detail), max_size=4))
    texts = [part for part in parts if isinstance(part, str)]
    return Message(role, joint.join(texts), parts=tuple(parts) if len(texts) < len(parts) else ())


def _arguments() -> st.SearchStrategy[str]:
    values = TEXTS | st.integers(-1000, 1000) | st.booleans() | st.none()
    given = st.dictionaries(TEXTS, values, max_size=3)
    return given.map(lambda value: msgspec.json.encode(value).decode())


@st.composite
def boxes(draw: st.DrawFn) -> Toolbox | None:
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    if not names:
        return None
    tools = tuple(
        Tool(
            name, draw(st.none() | TEXTS), draw(SCHEMAS), draw(st.sampled_from([None, True, False]))
        )
        for name in names
    )
    choice = draw(st.sampled_from(["auto", "none", "required", "named"]))
    named = draw(st.sampled_from(names)) if choice == "named" else None
    parallel = choice == "none" or draw(st.booleans())
    return Toolbox(tools, "required" if named else choice, named, parallel)


def samplings(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[Sampling]:
    shares = st.sampled_from([0.25, 0.5, 0.75, 1.0])
    return st.builds(
        Sampling, max_tokens=st.integers(1, 1000), temperature=shares, top_p=shares, **more
    )


STOPS = st.lists(TEXTS.filter(bool), max_size=3).map(tuple)
USERS = st.none() | TEXTS

CHATS = st.builds(
    ChatRequest,
    model=NAMES,
    messages=turns("", detail=True, seen_by_tools=False),
    sampling=samplings(
        stop=STOPS,
        top_k=st.integers(0, 9),
        seed=st.none() | st.integers(0, 9),
        n=st.integers(1, 3),
        logprobs=st.none() | st.integers(0, 20),
    ),
    user=USERS,
    tools=boxes(),
    structure=st.none()
    | st.builds(
        Structure,
        st.just("json"),
        SCHEMAS,
        st.just("response_format.json_schema.schema"),
        NAMES,
        st.sampled_from([None, True, False]),
    ),
    stream=st.booleans(),
    hints=st.fixed_dictionaries({}, optional={"reasoning_effort": TEXTS, "verbosity": TEXTS}),
)

MESSAGES = st.builds(
    ChatRequest,
    model=NAMES,
    messages=turns("\n\n", detail=False, seen_by_tools=True),
    sampling=samplings(stop=STOPS, top_k=st.integers(0, 9)),
    user=USERS,
    tools=boxes(),
    structure=st.none()
    | st.builds(
        Structure,
        st.just("json"),
        SCHEMAS,
        st.just("output_config.format.schema"),
        st.just("answer"),
        st.just(True),
    ),
    stream=st.booleans(),
    hints=st.fixed_dictionaries(
        {}, optional={"reasoning_effort": st.sampled_from(["low", "high"])}
    ),
)

RESPONSES = st.builds(
    ChatRequest,
    model=NAMES,
    messages=turns("", detail=True, seen_by_tools=True),
    sampling=samplings(logprobs=st.none() | st.integers(0, 20)),
    user=USERS,
    tools=boxes(),
    structure=st.none()
    | st.builds(
        Structure,
        st.just("json"),
        SCHEMAS,
        st.just("text.format.schema"),
        NAMES,
        st.sampled_from([None, True, False]),
    ),
    stream=st.booleans(),
    hints=st.fixed_dictionaries({}, optional={"reasoning_effort": TEXTS, "verbosity": TEXTS}),
)


def _given(**fields: Any) -> Body:
    return {name: value for name, value in fields.items() if value is not None}


# --- OpenAI's chat --------------------------------------------------------------------------------


def chat_body(request: ChatRequest) -> Body:
    sampling, box, form = request.sampling, request.tools, request.structure
    fields = _given(
        model=request.model,
        messages=[_chat_message(message) for message in request.messages],
        max_completion_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        n=sampling.n,
        stop=list(sampling.stop),
        user=request.user,
        stream=request.stream,
        tools=[_chat_tool(tool) for tool in box.tools] if box else None,
        parallel_tool_calls=box.parallel if box else None,
        logprobs=None if sampling.logprobs is None else True,
        top_logprobs=sampling.logprobs,
        **request.hints,
    )
    if box:
        named = {"type": "function", "function": {"name": box.named}}
        fields["tool_choice"] = named if box.named else box.choice
    if form:
        schema = _given(name=form.name, schema=form.source, strict=form.strict)
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


def _chat_tool(tool: Tool) -> Body:
    function = _given(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        strict=tool.strict,
    )
    return {"type": "function", "function": function}


def _chat_message(message: Message) -> Body:
    content: Any = [_chat_part(part) for part in message.parts] or message.content
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in message.tool_calls
    ]
    return _given(
        role=message.role,
        content=content,
        tool_calls=calls or None,
        tool_call_id=message.tool_call_id,
    )


def _chat_part(part: Part) -> Body:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": _given(url=part.url, detail=part.detail)}


# --- Anthropic's messages -------------------------------------------------------------------------


def messages_body(request: ChatRequest) -> Body:
    sampling, box, form = request.sampling, request.tools, request.structure
    first, *rest = request.messages
    system = first.content if first.role == "system" else None
    effort = request.hints.get("reasoning_effort")
    output = _given(
        effort=effort,
        format={"type": "json_schema", "schema": form.source} if form else None,
    )
    return _given(
        model=request.model,
        system=system,
        messages=[_turn(one) for one in (rest if system is not None else request.messages)],
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        stop_sequences=list(sampling.stop),
        stream=request.stream,
        metadata=None if request.user is None else {"user_id": request.user},
        tools=[_custom_tool(tool) for tool in box.tools] if box else None,
        tool_choice=_anthropic_choice(box) if box else None,
        output_config=output or None,
    )


def _anthropic_choice(box: Toolbox) -> Body:
    if box.choice == "none":
        return {"type": "none"}
    kinds = {"auto": "auto", "required": "any"}
    named = {"type": "tool", "name": box.named} if box.named else {"type": kinds[box.choice]}
    return {**named, "disable_parallel_tool_use": not box.parallel}


def _custom_tool(tool: Tool) -> Body:
    return _given(
        name=tool.name,
        description=tool.description,
        input_schema=tool.parameters,
        strict=tool.strict,
    )


def _turn(message: Message) -> Body:
    content: Any = [_block(part) for part in message.parts] or message.content
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}
        return {"role": "user", "content": [result]}
    if message.tool_calls:
        said = [{"type": "text", "text": message.content}] if message.content else []
        calls = [
            {"type": "tool_use", "id": c.id, "name": c.name, "input": json.loads(c.arguments)}
            for c in message.tool_calls
        ]
        content = [*said, *calls]
    return {"role": message.role, "content": content}


def _block(part: Part) -> Body:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not part.url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    media, data = part.url.removeprefix("data:").split(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}


# --- OpenAI's responses ---------------------------------------------------------------------------


def responses_body(request: ChatRequest) -> Body:
    sampling, box, form = request.sampling, request.tools, request.structure
    first, *rest = request.messages
    told = first.content if first.role == "system" else None
    text = _given(
        verbosity=request.hints.get("verbosity"),
        format=_text_format(form) if form else None,
    )
    effort = request.hints.get("reasoning_effort")
    fields = _given(
        model=request.model,
        instructions=told,
        input=_items(rest if told is not None else request.messages),
        max_output_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_logprobs=sampling.logprobs,
        user=request.user,
        stream=request.stream,
        reasoning=None if effort is None else {"effort": effort},
        text=text or None,
        tools=[{"type": "function", **_given(**_flat(tool))} for tool in box.tools]
        if box
        else None,
        parallel_tool_calls=box.parallel if box else None,
    )
    if box:
        fields["tool_choice"] = {"type": "function", "name": box.named} if box.named else box.choice
    return fields


def _flat(tool: Tool) -> Body:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def _text_format(form: Structure) -> Body:
    return _given(type="json_schema", name=form.name, schema=form.source, strict=form.strict)


def _items(messages: Sequence[Message]) -> list[Body]:
    items: list[Body] = []
    for message in messages:
        content: Any = [_item_part(part) for part in message.parts] or message.content
        if message.role == "tool":
            call = message.tool_call_id
            items.append({"type": "function_call_output", "call_id": call, "output": content})
            continue
        if message.content or message.parts or not message.tool_calls:
            items.append({"role": message.role, "content": content})
        items += [
            {"type": "function_call", "call_id": c.id, "name": c.name, "arguments": c.arguments}
            for c in message.tool_calls
        ]
    return items


def _item_part(part: Part) -> Body:
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    return {"type": "input_image", **_given(image_url=part.url, detail=part.detail)}
