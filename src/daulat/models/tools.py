"""How models are told of tools and how they call them: a table of the families' syntaxes.

A call is always the same three things, JSON with a name and arguments, a mark before it, and one
behind it; which marks, is data. A model whose chat template knows no tools gets the last syntax of
the table, with the tools and the way to call them in the system message.

Not here: rendering (`templates`), keeping a model to its syntax (`engine.grammars`).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daulat.values.request import Message, Tool, ToolCall

ID_LENGTH = 9  # Mistral's templates take no other; to all others it is the same

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolSyntax:
    """How one family writes calls.

    An answer with calls is `opening`, the calls with `between` between them, `closing`. A call is
    `head`, its name, `middle`, its arguments as a JSON object, `tail`.

    Attributes:
        marks: texts of which the chat templates of the family have one.
        trigger: the beginning of `opening` by which calls are told from text; often one token.
        anywhere: text may stand before the calls; else they are the whole answer.
        several: an answer may have more than one call.
        loose: a space may stand behind the trigger.
        result_role: the role in which a template that does not know `tool_calls` expects results.
    """

    name: str
    marks: tuple[str, ...]
    trigger: str
    opening: str
    between: str
    closing: str
    head: str = '{"name": "'
    middle: str = '", "arguments": '
    tail: str = "}"
    anywhere: bool = True
    several: bool = True
    loose: bool = False
    result_role: str = "tool"


# In the order in which they are looked for.
SYNTAXES: tuple[ToolSyntax, ...] = (
    ToolSyntax(
        name="hermes",  # also Qwen and Granite 4
        marks=("<tool_call>",),
        trigger="<tool_call>",
        opening="<tool_call>\n",
        between="\n</tool_call>\n<tool_call>\n",
        closing="\n</tool_call>",
    ),
    ToolSyntax(
        name="granite",
        marks=("<|tool_call|>",),
        trigger="<|tool_call|>",
        opening="<|tool_call|>[",
        between=", ",
        closing="]",
        loose=True,
        result_role="tool_response",
    ),
    ToolSyntax(
        name="mistral",
        marks=("[TOOL_CALLS]",),
        trigger="[TOOL_CALLS]",
        opening="[TOOL_CALLS][",
        between=", ",
        closing="]",
        loose=True,
    ),
    ToolSyntax(
        name="llama",
        marks=("<|python_tag|>", '"parameters":'),
        trigger="{",
        opening="",
        between="",
        closing="",
        middle='", "parameters": ',
        anywhere=False,
        several=False,
        result_role="ipython",
    ),
)
GENERIC = ToolSyntax(
    name="generic",
    marks=(),
    trigger="<tool_call>",
    opening="<tool_call>\n",
    between="\n</tool_call>\n<tool_call>\n",
    closing="\n</tool_call>",
)

_KNOWS_TOOLS = re.compile(r"\btools\b")


def syntax_of(template: str) -> ToolSyntax:
    """The syntax that a chat template's model was trained on."""
    if _KNOWS_TOOLS.search(template):
        for syntax in SYNTAXES:
            if any(mark in template for mark in syntax.marks):
                return syntax
    return GENERIC


def new_call_id() -> str:
    """Nine letters and digits."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(ID_LENGTH))


def described(tool: Tool) -> JSON:
    """A tool as templates take it: OpenAI's own form."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    about = {} if tool.description is None else {"description": tool.description}
    function = {"name": tool.name, **about, "parameters": parameters}
    return {"type": "function", "function": function}


def written(calls: Sequence[ToolCall], syntax: ToolSyntax) -> str:
    """Calls as the model would have written them."""
    texts = [
        f"{syntax.head}{call.name}{syntax.middle}{_spaced(call.arguments)}{syntax.tail}"
        for call in calls
    ]
    return syntax.opening + syntax.between.join(texts) + syntax.closing


def _spaced(arguments: str) -> str:
    return json.dumps(json.loads(arguments), ensure_ascii=False)


# --- conversations, as templates take them --------------------------------------------------------


def conversation(
    template: str, messages: Sequence[Message], tools: Sequence[Tool]
) -> tuple[list[JSON], list[JSON] | None]:
    """Messages and tools for a template; where it knows no tools, the messages say it all."""
    syntax = syntax_of(template)
    if syntax is GENERIC:
        plain = [_spelled(message, syntax) for message in messages]
        return _joined(_instructed(plain, tools) if tools else plain), None
    if "tool_calls" in template:
        plain = [_structured(message) for message in messages]
    else:
        plain = [_spelled(message, syntax) for message in messages]
    return plain, [described(tool) for tool in tools] or None


def _base(message: Message) -> JSON:
    # "developer" is OpenAI's newer word for "system"; no open model's template knows it.
    role = "system" if message.role == "developer" else message.role
    plain = {"role": role, "content": message.content}
    return plain if message.name is None else plain | {"name": message.name}


def _structured(message: Message) -> JSON:
    plain = _base(message)
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": _short_id(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = _short_id(message.tool_call_id)
    return plain


def _short_id(text: str) -> str:
    """An id of the length that all templates take; the same for the same id."""
    if re.fullmatch(f"[a-zA-Z0-9]{{{ID_LENGTH}}}", text):
        return text
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:ID_LENGTH]


def _spelled(message: Message, syntax: ToolSyntax) -> JSON:
    plain = _base(message)
    if message.tool_calls:
        text = f"{message.content}\n" if message.content else ""
        plain["content"] = text + written(message.tool_calls, syntax)
    if message.role == "tool":
        plain["role"] = syntax.result_role
        if syntax is GENERIC:
            plain["role"] = "user"
            plain["content"] = f"<tool_response>\n{message.content}\n</tool_response>"
    return plain


def _joined(messages: list[JSON]) -> list[JSON]:
    """Results of several calls are one turn: most templates want turns to alternate."""
    made: list[JSON] = []
    for message in messages:
        if made and _is_result(message) and _is_result(made[-1]):
            made[-1] = {**made[-1], "content": f"{made[-1]['content']}\n{message['content']}"}
        else:
            made.append(message)
    return made


def _is_result(message: Mapping[str, Any]) -> bool:
    return message["role"] == "user" and message["content"].startswith("<tool_response>\n")


def _instructed(messages: list[JSON], tools: Sequence[Tool]) -> list[JSON]:
    text = _instructions(tools)
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _instructions(tools: Sequence[Tool]) -> str:
    lines = "\n".join(json.dumps(described(tool)["function"], ensure_ascii=False) for tool in tools)
    example = GENERIC.opening + '{"name": "…", "arguments": {…}}' + GENERIC.closing
    return (
        f"You can call these tools:\n{lines}\n\nTo call a tool, answer with its name and its "
        f"arguments in this form:\n{example}\nYou get the result between <tool_response> and "
        "</tool_response>. When no tool is needed, answer in plain words."
    )
