"""The fields of Anthropic's messages that this server does not act on; see `wire.fields`."""

from __future__ import annotations

import re

from daulat.server.wire.fields import Kinds, Left, Tables

HARMLESS: tuple[Left, ...] = (
    Left("cache_control", (), "A hint for Anthropic's cache, here and in blocks and tools."),
    Left("service_tier", (), "Chooses Anthropic's price class."),
    Left("inference_geo", (), "Says where Anthropic computes. The policy says where data may go."),
    Left("speed", (), "Chooses between two speeds of one model."),
    Left("diagnostics", (), "Asks Anthropic's cache for an explanation."),
    Left("user_profile_id", (), "Names the end user to Anthropic's abuse watch."),
    Left("workspace_id", (), "Chooses one of an account's workspaces at Anthropic."),
)

REFUSED: tuple[Left, ...] = (
    Left(
        "thinking", (), "How a model thinks is not set from here.", '`null`, `{"type": "disabled"}`'
    ),
    Left("container", (), "Nothing runs in a container.", "`null`"),
    Left("context_management", (), "The conversation is taken as it is sent.", "`null`"),
    Left("thread", (), "The conversation is sent whole each time.", "`null`"),
    Left("mcp_servers", (), "Only the client calls tools.", "`null`, `[]`"),
)

_BLOCK = r"messages\[\d+\]\.content\[\d+\]"
_BLOCKS = frozenset({"text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking"})

REFUSED_IN_BLOCKS: tuple[Left, ...] = (
    Left("citations", (), "Nothing is cited.", '`null`, `[]`, `{"enabled": false}`'),
    Left("transformations", (), "Pictures are passed on as they are.", "`null`"),
    Left("toolset_name", (), "Tools have one name.", "`null`"),
)

REFUSED_IN_TOOLS: tuple[Left, ...] = (
    Left("allowed_callers", (), "Models call tools, programs do not.", '`null`, `["direct"]`'),
    Left("defer_loading", (), "A model is told of all its tools.", "`null`, `false`"),
    Left("input_examples", (), "Models are told names, descriptions and schemas.", "`null`, `[]`"),
)

ANTHROPIC = Tables(
    HARMLESS,
    REFUSED,
    (
        (re.compile(_BLOCK), REFUSED_IN_BLOCKS),
        (re.compile(r"tools\[\d+\]"), REFUSED_IN_TOOLS),
    ),
    (
        Kinds(
            re.compile(_BLOCK),
            "type",
            _BLOCKS,
            None,
            "content",
            "text, pictures and tools are read",
        ),
        Kinds(
            re.compile(rf"{_BLOCK}\.content\[\d+\]"),
            "type",
            frozenset({"text", "image"}),
            None,
            "a tool's result",
            "text and pictures are read",
        ),
        Kinds(
            re.compile(rf"{_BLOCK}(\.content\[\d+\])?\.source"),
            "type",
            frozenset({"base64", "url"}),
            None,
            "a picture",
            "send it in base64 or by its https address",
        ),
        Kinds(
            re.compile(r"tools\[\d+\]"),
            "type",
            frozenset({"custom"}),
            None,
            "a tool",
            "only the client's own tools (`custom`) can be called",
        ),
    ),
)
