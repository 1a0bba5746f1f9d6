"""The fields of OpenAI's responses that this server does not act on; see `wire.fields`."""

from __future__ import annotations

import re

from daulat.server.wire.fields import Kinds, Left, Tables

_CACHE = "A hint for OpenAI's cache. It changes no answer."

HARMLESS: tuple[Left, ...] = (
    Left("service_tier", (), "Chooses OpenAI's price class.", hint=True),
    Left("safety_identifier", (), "Names the end user. It stays in the record.", hint=True),
    Left("prompt_cache_key", (), _CACHE, hint=True),
    Left("prompt_cache_retention", (), _CACHE, hint=True),
    Left("prompt_cache_options", (), _CACHE),
    Left("reasoning", (), "A hint on how long to think; any answer satisfies it."),
    Left("max_tool_calls", (), "Limits calls of OpenAI's own tools. There are none."),
    Left("stream_options", (), "Asks for padding against eavesdroppers on encrypted streams."),
)

_NO = "`null`, `false`"

REFUSED: tuple[Left, ...] = (
    Left("background", (), "Answers are given while the client waits.", _NO),
    Left("conversation", (), "Go on by `previous_response_id`.", "`null`"),
    Left("prompt", (), "Prompts are not stored here: send their text.", "`null`"),
    Left("truncation", (), "A conversation is not shortened.", '`null`, `"disabled"`'),
    Left("context_management", (), "A conversation is not shortened.", "`null`, `[]`"),
    Left("moderation", (), "Answers are not judged on the way: use /v1/moderations.", "`null`"),
)

_ITEM = r"input\[\d+\]"
_PARTS = frozenset({"input_text", "input_image", "output_text", "refusal", "reasoning_text"})

REFUSED_IN_ITEMS: tuple[Left, ...] = (
    Left("namespace", (), "Tools have one name.", "`null`"),
    Left("caller", (), "Models call tools, programs do not.", '`null`, `{"type": "direct"}`'),
)

REFUSED_IN_TOOLS: tuple[Left, ...] = (
    Left("allowed_callers", (), "Models call tools, programs do not.", '`null`, `["direct"]`'),
    Left("defer_loading", (), "A model is told of all its tools.", _NO),
    Left("output_schema", (), "Results are texts.", "`null`"),
)

RESPONSES = Tables(
    HARMLESS,
    REFUSED,
    (
        (re.compile(_ITEM), REFUSED_IN_ITEMS),
        (re.compile(r"tools\[\d+\]"), REFUSED_IN_TOOLS),
    ),
    (
        Kinds(
            re.compile(_ITEM),
            "type",
            frozenset({"message", "function_call", "function_call_output", "reasoning"}),
            None,
            "an item",
            "messages, function calls, their outputs and reasoning are read",
        ),
        Kinds(
            re.compile(rf"{_ITEM}\.(content|output)\[\d+\]"),
            "type",
            _PARTS,
            None,
            "content",
            "text and pictures are read",
        ),
        Kinds(
            re.compile(r"tools\[\d+\]"),
            "type",
            frozenset({"function"}),
            None,
            "a tool",
            "only the client's own functions can be called",
        ),
        Kinds(
            re.compile("tool_choice"),
            "type",
            frozenset({"function"}),
            None,
            "a choice",
            'take a function by name, "auto", "none" or "required"',
        ),
    ),
)
